import { randomBytes } from 'node:crypto'
import type { RequestListener } from 'node:http'
import type { Provider } from 'oidc-provider'
import { authorizationServer } from '../demo/authorization-server.js'
import { listen } from '../demo/server.js'
import { type Timeline, timeline } from '../demo/timeline.js'
import { billingApi } from './billing-api.js'
import { gateway } from './gateway.js'
import { shopApi } from './shop-api.js'

export interface StartOptions {
  /** Where the gateway listens; another port if this one is taken. */
  readonly port: number
  /** The URL for browsers, if it is another one, for example of a load balancer. */
  readonly url?: string
  readonly accessTokenSeconds: number
  /** The interval between events of the orders. */
  readonly newsEveryMs: number
  /** How long ago a user who cancels an order may have logged in, in seconds. */
  readonly freshLoginSeconds: number
  /** Handles requests before the authorization server does. Default: none. */
  readonly door?: (authorizationServer: RequestListener) => RequestListener
}

export interface Started {
  /** Where browsers reach the gateway, and where it listens. */
  readonly url: string
  readonly origin: string
  readonly shopApi: string
  readonly billingApi: string
  readonly provider: Provider
  readonly clientSecret: string
  /** The requests to the authorization server and their responses. */
  readonly timeline: Timeline
  close(): Promise<void>
}

/** Starts the gateway, and on other ports the authorization server and the two APIs. */
export async function start(options: StartOptions): Promise<Started> {
  const [front, idp, shop, billing] = await Promise.all([
    listen(options.port),
    listen(0),
    listen(0),
    listen(0),
  ])
  // Another host than the authorization server's, so that it is another site for the browser.
  const { url = front.url.replace('127.0.0.1', 'localhost') } = options
  const issuer = idp.url
  const [id, secret] = ['gateway', random()]
  const events = timeline()

  const { provider, listener } = authorizationServer({
    issuer,
    client: {
      id,
      secret,
      redirectUris: [`${url}/callback`],
      authentication: 'client_secret_basic',
      postLogoutRedirectUri: `${url}/`,
    },
    apis: [
      { resource: shop.url, scope: 'orders.read orders.write' },
      { resource: billing.url, scope: 'billing.read' },
    ],
    accessTokenSeconds: options.accessTokenSeconds,
    timeline: events,
  })
  idp.use(options.door?.(listener) ?? listener)
  shop.use(shopApi({ issuer, audience: shop.url, ...options }))
  billing.use(billingApi({ issuer, audience: billing.url }))

  const backend = gateway({
    url,
    issuer,
    clientId: id,
    clientSecret: secret,
    sessionSecret: random(),
    sessionKey: random(),
    shopApi: shop.url,
    billingApi: billing.url,
  })
  front.use(backend.app)

  return {
    url,
    origin: front.url,
    shopApi: shop.url,
    billingApi: billing.url,
    provider,
    clientSecret: secret,
    timeline: events,
    async close() {
      await front.close()
      // Refreshes under way need the authorization server.
      await backend.close()
      await Promise.all([idp, shop, billing].map((server) => server.close()))
    },
  }
}

function random(): string {
  return randomBytes(32).toString('base64')
}

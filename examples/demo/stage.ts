import { randomBytes } from 'node:crypto'
import type { RequestListener } from 'node:http'
import type { Provider } from 'oidc-provider'
import { authorizationServer } from './authorization-server.js'
import type { BffOptions } from './bff.js'
import { ordersApi } from './orders-api.js'
import { listen } from './server.js'
import { type Timeline, timeline } from './timeline.js'

export interface StageOptions {
  /** Where browsers reach the app. */
  readonly siteUrl: string
  readonly accessTokenSeconds: number
  /** How long a request to the token endpoint is under way, as on the internet, in milliseconds. Default: 0. */
  readonly latencyMs?: number
  /** How the app authenticates at the authorization server. Default: by HTTP Basic. */
  readonly clientAuthentication?: 'client_secret_basic' | 'client_secret_post'
  /** Resolves when the warehouse has confirmed an order. Default: at once. */
  readonly warehouse?: () => Promise<void>
  /** Handles requests before the authorization server does. Default: none. */
  readonly door?: (authorizationServer: RequestListener) => RequestListener
}

/** The servers of an app: the authorization server and the API, and a time line of their requests. */
export interface Stage {
  readonly timeline: Timeline
  readonly provider: Provider
  readonly client: { readonly id: string; readonly secret: string }
  /** The options of the app. */
  readonly bff: BffOptions
  close(): Promise<void>
}

export async function setStage(options: StageOptions): Promise<Stage> {
  const {
    siteUrl,
    accessTokenSeconds,
    latencyMs,
    clientAuthentication: authentication = 'client_secret_basic',
  } = options
  const [idp, api] = [await listen(0), await listen(0)]
  const events = timeline()
  const client = { id: 'demo', secret: randomBytes(32).toString('hex') }

  const { provider, listener } = authorizationServer({
    issuer: idp.url,
    client: {
      ...client,
      redirectUris: [`${siteUrl}/callback`, `${siteUrl}/without/callback`],
      authentication,
    },
    apis: [{ resource: api.url, scope: 'orders.read orders.write' }],
    accessTokenSeconds,
    latencyMs,
    timeline: events,
  })
  idp.use(options.door?.(listener) ?? listener)

  const warehouse = options.warehouse ?? (async () => {})
  api.use(ordersApi({ issuer: idp.url, audience: api.url, onCall: events.call, warehouse }))

  return {
    timeline: events,
    provider,
    client,
    bff: {
      url: siteUrl,
      issuer: idp.url,
      clientId: client.id,
      clientSecret: client.secret,
      sessionSecret: randomBytes(32).toString('hex'),
      sessionKey: randomBytes(32).toString('base64'),
      api: api.url,
    },
    close: async () => void (await Promise.all([api.close(), idp.close()])),
  }
}

import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import express from 'express'
import type { Provider } from 'oidc-provider'
import { authorizationServer } from './authorization-server.js'
import { bff } from './bff.js'
import { ordersApi } from './orders-api.js'
import { page } from './page.js'
import { listen } from './server.js'
import { type Timeline, timeline } from './timeline.js'
import { timelineFeed } from './timeline-feed.js'

export interface DemoOptions {
  /** Where the page is served; another port if this one is taken. */
  readonly port: number
  readonly accessTokenSeconds: number
  /** Resolves when the warehouse has confirmed an order. Default: at once. */
  readonly warehouse?: () => Promise<void>
}

export interface Demo {
  readonly url: string
  readonly timeline: Timeline
  readonly provider: Provider
  readonly client: { readonly id: string; readonly secret: string }
  close(): Promise<void>
}

/** Starts everything: the authorization server, the API, and the BFF with its page. */
export async function startDemo(options: DemoOptions): Promise<Demo> {
  const [site, idp, api] = [await listen(options.port), await listen(0), await listen(0)]
  const events = timeline()
  const client = { id: 'demo', secret: randomBytes(32).toString('hex') }

  const { provider, listener } = authorizationServer({
    issuer: idp.url,
    client: { ...client, redirectUri: `${site.url}/callback` },
    audience: api.url,
    accessTokenSeconds: options.accessTokenSeconds,
    timeline: events,
  })
  idp.use(listener)

  const warehouse = options.warehouse ?? (async () => {})
  api.use(ordersApi({ issuer: idp.url, audience: api.url, onCall: events.call, warehouse }))

  const backend = bff({
    url: site.url,
    issuer: idp.url,
    authorizationEndpoint: `${idp.url}/auth`,
    jwksUri: `${idp.url}/jwks`,
    clientId: client.id,
    clientSecret: client.secret,
    sessionSecret: randomBytes(32).toString('hex'),
    api: api.url,
  })
  const feed = timelineFeed(events)
  const app = express()
  app.get('/', page('index.html', { formAction: "'none'" }))
  app.get('/page.js', (_req, res) => res.sendFile(join(import.meta.dirname, 'page/page.js')))
  app.get('/timeline', feed)
  app.use(backend.app)
  site.use(app)

  return {
    url: site.url,
    timeline: events,
    provider,
    client,
    async close() {
      feed.close()
      await site.close()
      // Refreshes under way end, and their tokens are stored, while the authorization server is still there.
      await backend.close()
      await Promise.all([api.close(), idp.close()])
    },
  }
}

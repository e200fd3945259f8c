import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, request } from 'node:http'
import { createServer as createTlsServer, request as tlsRequest } from 'node:https'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import type express from 'express'
import type Koa from 'koa'
import * as onExpress from '../../lib/index.js'
import * as onKoa from '../../lib/koa.js'
import { bearerProxy, upgradesThrough } from '../../lib/proxy.js'
import { expressVersions } from './app.js'
import { certificate } from './certificate.js'
import { koaVersions } from './koa-site.js'
import { json, wireServer } from './wire-server.js'

/** How a site is reached, and what it allows. */
export interface CrossOriginSiteOptions {
  readonly allowedOrigins?: readonly string[]
  /** Whether TLS ends here. */
  readonly tls?: boolean
  /** Whether what a proxy in front says is believed. */
  readonly trustsProxy?: boolean
}

export interface CrossOriginSite {
  /** How many requests came through. */
  passed(): number
  /** Asks with exactly these headers, one line for each. */
  ask(
    method: string,
    headers: readonly (readonly [name: string, value: string])[],
  ): Promise<CrossOriginAnswer>
  close(): Promise<void>
}

export interface CrossOriginAnswer {
  readonly status: number | undefined
  readonly type: string | undefined
  readonly text: string
}

/** What refuses requests of other origins, in each framework: the middleware, and the proxy by itself. */
export interface CrossOriginDriver {
  readonly name: string
  start(options: CrossOriginSiteOptions): Promise<CrossOriginSite>
}

/** Puts together an app whose answer is `"fine"`. */
type Build = (options: CrossOriginSiteOptions, api: string, onPass: () => void) => RequestListener

const TOKENS = { tokenToSend: async () => ({ token: 'a-token', tokenType: 'Bearer', expiresAt: Infinity }) }
const { cert, key } = certificate()

export const refusingMiddleware: readonly CrossOriginDriver[] = [
  ...expressVersions.map(([name, version]) =>
    driver(name, ({ allowedOrigins, trustsProxy }, _, onPass) => {
      const app = expressApp(version, trustsProxy)
      app.use(
        allowedOrigins ? onExpress.refuseCrossOrigin({ allowedOrigins }) : onExpress.refuseCrossOrigin(),
      )
      app.use((_request, response) => {
        onPass()
        response.json('fine')
      })
      return app
    }),
  ),
  ...koaVersions.map(([name, Version]) =>
    driver(name, ({ allowedOrigins, trustsProxy }, _, onPass) => {
      const app = koaApp(Version, trustsProxy)
      app.use(allowedOrigins ? onKoa.refuseCrossOrigin({ allowedOrigins }) : onKoa.refuseCrossOrigin())
      app.use((ctx) => {
        onPass()
        ctx.body = '"fine"'
      })
      return app.callback()
    }),
  ),
]

export const refusingProxies: readonly CrossOriginDriver[] = [
  ...expressVersions.map(([name, version]) =>
    driver(name, ({ allowedOrigins, trustsProxy }, target) => {
      const app = expressApp(version, trustsProxy)
      app.use((request, _response, next) => {
        Object.assign(request, { tokens: TOKENS })
        next()
      })
      return app.use(bearerProxy({ target, ...(allowedOrigins && { allowedOrigins }) }))
    }),
  ),
  ...koaVersions.map(([name, Version]) =>
    driver(name, ({ allowedOrigins, trustsProxy }, target) => {
      const app = koaApp(Version, trustsProxy)
      app.use((ctx, next) => {
        Object.assign(ctx, { tokens: TOKENS })
        return next()
      })
      app.use(bearerProxy({ target, ...(allowedOrigins && { allowedOrigins }) }))
      return app.callback()
    }),
  ),
]

function expressApp(version: typeof express, trustsProxy = false): express.Express {
  return version().set('trust proxy', trustsProxy).set('env', 'production')
}

function koaApp(Version: typeof Koa, proxy = false): Koa {
  return new Version({ proxy })
}

function driver(name: string, build: Build): CrossOriginDriver {
  return {
    name,
    async start(options) {
      let passed = 0
      const api = await wireServer((_, response) => {
        passed += 1
        json(response, 'fine')
      })
      const app = build(options, api.url, () => {
        passed += 1
      })
      const server = options.tls ? createTlsServer({ cert, key }, app) : createServer(app)
      server.on('upgrade', upgradesThrough(app))
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      const { port } = server.address() as AddressInfo
      return {
        passed: () => passed,
        async ask(method, headers) {
          const lines = headers.flat()
          const to = {
            host: '127.0.0.1',
            port,
            method,
            headers: lines,
            agent: false,
            rejectUnauthorized: false,
          }
          const asking = options.tls ? tlsRequest(to) : request(to)
          asking.end()
          const [answer] = (await once(asking, 'response')) as [IncomingMessage]
          return { status: answer.statusCode, type: answer.headers['content-type'], text: await text(answer) }
        },
        async close() {
          const closed = once(server, 'close')
          server.close()
          server.closeAllConnections()
          await closed
          await api.close()
        },
      }
    },
  }
}

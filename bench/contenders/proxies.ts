/** The process of an API, or of one proxy before it. */
import { Agent, type RequestListener, request as requestOf } from 'node:http'
import express, { type Express, type RequestHandler } from 'express'
import session from 'express-session'
import { createProxyMiddleware } from 'http-proxy-middleware'
import { publicClient, requireTokens, sessionTokens } from 'session-token-manager'
import { bearerProxy } from 'session-token-manager/proxy'
import { serve } from '../harness/servers.js'

export type ProxyName =
  | 'pipe'
  | 'bearerProxy()'
  | 'pipe, in an app'
  | 'http-proxy-middleware, in an app'
  | 'bearerProxy(), in an app'

const SMALL = Buffer.from(
  JSON.stringify({ orders: Array.from({ length: 10 }, (_, id) => ({ id, state: 'open' })) }),
)
const LARGE = Buffer.alloc(1_000_000, 'a')
const LOGIN = { access_token: 'a'.repeat(900), refresh_token: 'r'.repeat(64), expires_in: 3600 }

const api: RequestListener = (request, response) => {
  const body = request.url?.startsWith('/api/large') ? LARGE : SMALL
  const headers = { 'content-type': 'application/json', etag: '"a"', 'cache-control': 'no-cache' }
  request.resume().on('end', () => {
    response.writeHead(200, { ...headers, 'content-length': body.length }).end(body)
  })
}

function listenerOf(name: ProxyName, target: string): RequestListener {
  const agent = new Agent({ keepAlive: true })
  switch (name) {
    case 'pipe':
      return pipe(target, agent)
    case 'bearerProxy()':
      return bare(target, agent)
    case 'pipe, in an app':
      return appWith(pipe(target, agent))
    case 'http-proxy-middleware, in an app':
      return appWith(peer(target, agent))
    case 'bearerProxy(), in an app':
      return appWithTokens(target, agent)
  }
}

/** The least that a proxy does. */
function pipe(target: string, agent: Agent): RequestListener {
  const { hostname, port } = new URL(target)
  return (request, response) => {
    const { method, headers } = request
    // Express takes the path of the mount away.
    const path = (request as { originalUrl?: string }).originalUrl ?? request.url
    const sent = requestOf({ hostname, port, path, method, headers, agent }, (received) => {
      response.writeHead(received.statusCode ?? 502, received.headers)
      received.pipe(response)
    })
    sent.on('error', () => response.destroy())
    request.pipe(sent)
  }
}

/** With a token that is known, in no framework. */
function bare(target: string, agent: Agent): RequestListener {
  const token = { token: LOGIN.access_token, tokenType: 'Bearer', expiresAt: Infinity }
  const tokens = { tokenToSend: async () => token }
  const proxy = bearerProxy({ target, agent })
  return (request, response) => {
    proxy(Object.assign(request, { tokens }), response, (error) => response.destroy(error as Error))
  }
}

/** It sends the token that the session holds, and refreshes none. */
function peer(target: string, agent: Agent): RequestHandler {
  return createProxyMiddleware({
    target: `${target}/api`,
    agent,
    on: {
      proxyReq: (sent, request) => {
        const { data } = (request as unknown as express.Request).session
        sent.setHeader('authorization', `Bearer ${JSON.parse(data ?? '{}').access_token}`)
      },
    },
  })
}

function appWith(proxy: RequestHandler | RequestListener): Express {
  const app = appWithSessions()
  app.get('/login', (request, response) => {
    request.session.data = JSON.stringify(LOGIN)
    response.end()
  })
  return app.use('/api', proxy)
}

function appWithTokens(target: string, agent: Agent): Express {
  const app = appWithSessions()
  app.use(
    sessionTokens({
      tokenEndpoint: 'http://127.0.0.1:9/',
      clientId: 'bench',
      clientAuthentication: publicClient(),
      encryptionKeys: false,
    }),
  )
  app.get('/login', async (request, response) => {
    await request.tokens.set(LOGIN)
    response.end()
  })
  return app.use('/api', requireTokens(), bearerProxy({ target: `${target}/api`, agent }))
}

function appWithSessions(): Express {
  return express().use(session({ secret: 'bench', resave: false, saveUninitialized: false }))
}

const [, , name = '', target = ''] = process.argv
await serve(name === 'api' ? api : listenerOf(name as ProxyName, target))

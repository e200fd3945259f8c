/** Prints how many of the requests for WebSockets are in memory while these are open, and when they are closed. */
import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import express from 'express'
import Koa from 'koa'
import { WebSocket } from 'ws'
import { bearerProxy, upgradesThrough } from '../../lib/proxy.js'
import { socketApi } from './socket-api.js'

const COUNT = 50
const { gc } = globalThis as unknown as { gc: () => void }
const tokens = { tokenToSend: async () => ({ token: 'a-token', tokenType: 'Bearer', expiresAt: Infinity }) }
const live = await socketApi()
const proxy = bearerProxy({ target: live.url })
let requests: WeakRef<object>[] = []

function onExpress(): RequestListener {
  const app = express()
  app.use((request, _, next) => {
    requests.push(new WeakRef(request))
    Object.assign(request, { tokens })
    next()
  })
  app.use(proxy)
  return app
}

function onKoa(): RequestListener {
  const app = new Koa()
  app.use((ctx, next) => {
    requests.push(new WeakRef(ctx.req))
    Object.assign(ctx, { tokens })
    return next()
  })
  app.use(proxy)
  return app.callback()
}

async function inMemory(): Promise<number> {
  for (let turn = 0; turn < 10; turn++) {
    await new Promise((resolve) => setImmediate(resolve))
    gc()
  }
  return requests.filter((request) => request.deref()).length
}

async function openAll(server: Server): Promise<WebSocket[]> {
  const { port } = server.address() as AddressInfo
  const sockets: WebSocket[] = []
  for (let count = 0; count < COUNT; count++) {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`)
    await once(socket, 'open')
    sockets.push(socket)
  }
  return sockets
}

const found: Record<string, { requests: number; open: number; closed: number }> = {}
for (const [name, listener] of Object.entries({ express: onExpress(), koa: onKoa() })) {
  requests = []
  const server = createServer(listener).listen(0, '127.0.0.1')
  server.on('upgrade', upgradesThrough(listener))
  await once(server, 'listening')
  const sockets = await openAll(server)
  const open = await inMemory()
  const idle = live.idle()
  for (const socket of sockets) socket.close()
  await idle
  found[name] = { requests: requests.length, open, closed: await inMemory() }
  server.close()
}
console.log(JSON.stringify(found))
await live.close()

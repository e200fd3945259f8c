import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { type WebSocket, WebSocketServer } from 'ws'

/** An API of WebSockets that says everything back. */
export interface SocketApi {
  readonly url: string
  /** The requests for WebSockets. */
  readonly requests: readonly IncomingMessage[]
  /** The open WebSockets. */
  readonly clients: ReadonlySet<WebSocket>
  /** How many connections there are. */
  readonly connections: number
  /** Resolves when the last connection has closed. */
  idle(): Promise<void>
  close(): Promise<void>
}

/** `refuse` may answer instead: it has the socket then. */
export async function socketApi(
  refuse: (request: IncomingMessage, socket: Socket, head: Buffer) => boolean = () => false,
): Promise<SocketApi> {
  const requests: IncomingMessage[] = []
  const server = createServer((_, response) => response.end('no WebSocket'))
  const sockets = new Set<Socket>()
  let onIdle = () => {}
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => {
      sockets.delete(socket)
      if (sockets.size === 0) onIdle()
    })
  })
  const webSockets = new WebSocketServer({ noServer: true })
  webSockets.on('headers', (headers) => headers.push('Set-Cookie: api=1'))
  webSockets.on('connection', (client) => {
    client.on('error', () => {})
    client.on('message', (data, isBinary) => client.send(data, { binary: isBinary }))
  })
  server.on('upgrade', (request, socket, head) => {
    requests.push(request)
    if (refuse(request, socket as Socket, head)) return
    webSockets.handleUpgrade(request, socket, head, (client) => webSockets.emit('connection', client))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    clients: webSockets.clients,
    get connections() {
      return sockets.size
    },
    idle: () =>
      new Promise((resolve) => {
        onIdle = resolve
        if (sockets.size === 0) resolve()
      }),
    async close() {
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

/** Leaves a request for a WebSocket unanswered. */
export function sayNothing(socket: Socket): true {
  socket.resume().once('end', () => socket.end())
  return true
}

/** Answers a request for a WebSocket with something else. */
export function sayNo(
  socket: Socket,
  status: number,
  headers: Record<string, string> = {},
  body = 'no',
): true {
  const lines = Object.entries({ 'Content-Length': String(body.length), Connection: 'close', ...headers })
  const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  socket.end(`HTTP/1.1 ${status} No\r\n${head}\r\n${body}`)
  return true
}

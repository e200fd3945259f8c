/**
 * Prints where a proxied request arrives, and with which headers, while `Object.prototype` has options of `http.request()`, as
 * a careless merge leaves them there.
 */
import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { bearerProxy } from '../../lib/proxy.js'

async function listening(name: string, listener: RequestListener): Promise<Server> {
  const server = createServer(listener)
  server.on('request', (request) =>
    arrivals.push([name, request.headers.authorization, request.headers['x-put']]),
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server
}

const arrivals: unknown[][] = []
const portOf = (server: Server) => (server.address() as AddressInfo).port
const respond: RequestListener = (_, response) => void response.end('{}')
const api = await listening('api', respond)
const other = await listening('other', respond)
const proxy = bearerProxy({ target: `http://127.0.0.1:${portOf(api)}` })
const withToken = {
  tokenToSend: async () => ({ token: 'a-token', tokenType: 'Bearer', expiresAt: Infinity }),
}
const withoutToken = { tokenToSend: async () => undefined }
const site = createServer((request, response) => {
  const tokens = request.url === '/public' ? withoutToken : withToken
  proxy(Object.assign(request, { tokens }), response, (error) => void response.destroy(error as Error))
}).listen(0, '127.0.0.1')
await once(site, 'listening')

const POLLUTION: Readonly<Record<string, unknown>> = {
  auth: 'user:password',
  headers: { authorization: 'Basic abc', 'x-put': 'here' },
  port: portOf(other),
  defaultPort: portOf(other),
  host: 'other.invalid',
  hostname: 'other.invalid',
  socketPath: '/tmp/other.sock',
  certificate: { hostname: '127.0.0.1', port: portOf(other) },
}

/** Asks without `fetch()`, which reads the pollution as well. */
async function ask(path: string): Promise<void> {
  const socket = connect(portOf(site), '127.0.0.1')
  socket.write(`GET ${path} HTTP/1.1\r\nHost: site.example\r\nConnection: close\r\n\r\n`)
  socket.resume()
  await once(socket, 'close')
}

for (const [name, value] of Object.entries(POLLUTION)) {
  await ask('/')
  await ask('/public')
  Object.defineProperty(Object.prototype, name, {
    configurable: true,
    enumerable: true,
    writable: true,
    value,
  })
  await ask('/')
  await ask('/public')
  delete (Object.prototype as unknown as Record<string, unknown>)[name]
}
console.log(JSON.stringify(arrivals))
process.exit()

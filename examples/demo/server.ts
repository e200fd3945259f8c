import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A server that listens on the loopback interface and gets its handler afterwards. */
export interface Server {
  readonly url: string
  /** Sets the handler. The URLs of all servers are known before the first one handles requests. */
  use(listener: RequestListener): void
  /** Accepts no more requests and resolves when those under way have their responses. */
  close(): Promise<void>
}

/** How long a response may take while the server is closing. */
const PATIENCE_MS = 2_000

/** Listens on a port of 127.0.0.1; if it is taken, on a free one. */
export async function listen(port: number): Promise<Server> {
  const server = createServer()
  try {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'EADDRINUSE') throw error
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
  }
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    use: (listener) => void server.on('request', listener),
    async close() {
      const closed = once(server, 'close')
      server.close()
      const timer = setTimeout(() => server.closeAllConnections(), PATIENCE_MS)
      await closed
      clearTimeout(timer)
    },
  }
}

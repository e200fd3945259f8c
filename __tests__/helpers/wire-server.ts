import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A request, byte for byte. */
export interface WireRequest {
  readonly method: string
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
  /** The port of the client's end of the connection. */
  readonly port: number | undefined
}

/** A real HTTP server on the loopback interface that keeps what it is sent. */
export interface WireServer {
  readonly url: string
  readonly port: number
  readonly requests: WireRequest[]
  close(): Promise<void>
}

export type WireHandler = (request: WireRequest, response: ServerResponse) => unknown

/** Listens on a free port of 127.0.0.1. */
export async function wireServer(handler: WireHandler): Promise<WireServer> {
  const requests: WireRequest[] = []
  const server = createServer(async (incoming, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of incoming) chunks.push(chunk)
    const request = {
      method: incoming.method ?? '',
      path: incoming.url ?? '',
      headers: incoming.headers,
      body: Buffer.concat(chunks).toString(),
      port: incoming.socket.remotePort,
    }
    requests.push(request)
    await handler(request, response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    requests,
    async close() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

/** Answers with JSON. */
export function json(response: ServerResponse, body: unknown, status = 200, headers = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))
}

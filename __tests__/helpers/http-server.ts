import { once } from 'node:events'
import { createServer, type RequestListener, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** What a server says to a request. */
export interface Answer {
  status: number
  headers?: Record<string, string>
  /** A string goes out as it is, everything else as JSON. */
  body?: unknown
}

/** A plain HTTP server on the loopback interface. */
export interface HttpServer {
  readonly url: string
  /** Stops listening and ends every connection, answered or not. */
  down(): Promise<void>
  /** Listens again, on the same port. */
  up(): Promise<void>
}

/** Listens on a free port of 127.0.0.1. `listenerAt` gets the server's own URL and returns what answers. */
export async function serve(
  listenerAt: (url: string) => RequestListener | Promise<RequestListener>,
): Promise<HttpServer> {
  const server = createServer()
  let port = 0
  const up = async () => {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
  }
  const down = async () => {
    if (!server.listening) return
    const closed = once(server, 'close')
    server.close()
    server.closeAllConnections()
    await closed
  }
  await up()
  port = (server.address() as AddressInfo).port
  const url = `http://127.0.0.1:${port}`
  try {
    server.on('request', await listenerAt(url))
  } catch (error) {
    await down()
    throw error
  }
  return { url, down, up }
}

/** Reads a whole request body as text. Rejects when the client disconnects before its end. */
export async function readBody(request: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

/** Sends an answer, unless the client has gone. */
export function send(response: ServerResponse, answer: Answer): void {
  if (response.destroyed) return
  const body = typeof answer.body === 'string' ? answer.body : (JSON.stringify(answer.body) ?? '')
  const type = typeof answer.body === 'string' ? 'text/plain' : 'application/json'
  response.writeHead(answer.status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    ...answer.headers,
  })
  response.end(body)
}

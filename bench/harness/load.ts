import { Agent, get, type IncomingMessage } from 'node:http'

/** What a browser would be: requests to one server over kept connections, with a cookie. */
export interface Client {
  readonly port: number
  readonly agent: Agent
  cookie?: string
}

/** A response, read to its end. */
export interface BenchResponse {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly body: string
  /** From the request to the end of the response, in milliseconds. */
  readonly ms: number
}

export function client(port: number, connections: number, cookie?: string): Client {
  const agent = new Agent({ keepAlive: true, maxSockets: connections, maxFreeSockets: connections })
  return { port, agent, ...(cookie !== undefined && { cookie }) }
}

/** Sends a GET request. Resolves whatever the status is; rejects when there is no response. */
export function send({ port, agent, cookie }: Client, path: string, headers = {}): Promise<BenchResponse> {
  return new Promise((resolve, reject) => {
    const startedAt = performance.now()
    const options = { host: '127.0.0.1', port, path, agent }
    get({ ...options, headers: !cookie ? headers : { ...headers, cookie } }, (response) => {
      let body = ''
      response.setEncoding('latin1').on('error', reject)
      response.on('data', (chunk) => {
        body += chunk
      })
      response.on('end', () => {
        const ms = performance.now() - startedAt
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body, ms })
      })
    }).on('error', reject)
  })
}

/**
 * Logs in: begins at `/login`, follows redirects, also those through the authorization server, and keeps the cookies. A
 * site may name any origin of its own in a redirect; the client stays at its port.
 */
export async function logIn(client: Client, issuer?: string): Promise<void> {
  const { port: issuerPort } = new URL(issuer ?? 'http://127.0.0.1')
  let path = '/login'
  for (let hops = 0; hops < 8; hops++) {
    const atIssuer = issuer !== undefined && path.startsWith(issuer)
    const url = new URL(path, `http://127.0.0.1:${client.port}`)
    const target = atIssuer ? { port: Number(issuerPort), agent: client.agent } : client
    const { status, headers, body } = await send(target, url.pathname + url.search)
    if (status >= 400) throw new Error(`the login failed at ${url.pathname}: ${status} ${body.slice(0, 200)}`)
    if (!atIssuer) keepCookies(client, headers)
    if (headers.location === undefined || url.pathname.includes('callback')) return
    path = headers.location
  }
  throw new Error('the login does not end')
}

/** Keeps the cookies of a response as a browser does. */
export function keepCookies(client: Client, headers: IncomingMessage['headers']): void {
  const cookies = new Map((client.cookie ?? '').split('; ').map((cookie) => nameAndValue(cookie)))
  for (const header of headers['set-cookie'] ?? []) {
    const [name, value] = nameAndValue(header.split(';')[0]!)
    if (value === '') cookies.delete(name)
    else cookies.set(name, value)
  }
  cookies.delete('')
  client.cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ')
}

function nameAndValue(cookie: string): [string, string] {
  const at = cookie.indexOf('=')
  return [cookie.slice(0, Math.max(at, 0)), cookie.slice(at + 1)]
}

/** Does some work `count` times, `parallel` at a time. */
export async function repeat(count: number, parallel: number, work: () => Promise<unknown>): Promise<void> {
  let left = count
  const worker = async () => {
    while (left-- > 0) await work()
  }
  await Promise.all(Array.from({ length: parallel }, worker))
}

export function median(values: readonly number[]): number {
  return percentile(values, 50)
}

/** The value that a part of the values, in percent, does not exceed. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((one, other) => one - other)
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))] ?? Number.NaN
}

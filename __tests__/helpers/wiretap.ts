import { once } from 'node:events'
import { type IncomingMessage, request, type ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { pipeline } from 'node:stream'
import { certificate } from './certificate.js'

/** A request and its answer, headers and bodies, as far as they have come. */
export interface Overheard {
  readonly method: string
  readonly path: string
  readonly status: number | undefined
  readonly request: string
  readonly answer: string
  /** Whether the answer has come to its end, or was broken off. */
  readonly ended: boolean
}

/** What stands before a site as a load balancer does, ends TLS there, and hears everything that passes. */
export interface Wiretap {
  readonly url: string
  readonly overheard: readonly Overheard[]
  /** Everything that has passed, in one text. */
  everything(): string
  /** Says where requests are sent on to. */
  leadTo(origin: string): void
  close(): Promise<void>
}

/** Listens on a free port of the loopback interface, with a certificate that browsers must be told to take. */
export async function wiretap(): Promise<Wiretap> {
  const tape: Tape[] = []
  let site = ''
  const server = createServer(certificate(), (req, res) => {
    const { method = '', url = '' } = req
    const entry = {
      method,
      path: url,
      status: undefined,
      request: lines(req.rawHeaders),
      answer: '',
      ended: false,
    }
    tape.push(entry)
    pass(site, req, res, entry)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')

  return {
    url: `https://localhost:${(server.address() as AddressInfo).port}`,
    overheard: tape,
    everything: () =>
      tape.map(({ method, path, request, answer }) => [method, path, request, answer].join('\n')).join('\n'),
    leadTo(origin) {
      site = origin
    },
    async close() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

type Tape = { -readonly [key in keyof Overheard]: Overheard[key] }

function pass(site: string, req: IncomingMessage, res: ServerResponse, tape: Tape): void {
  const headers = { ...req.headers, 'x-forwarded-proto': 'https' }
  const onward = request(new URL(req.url ?? '/', site), { method: req.method ?? 'GET', headers })
  onward.once('response', (answer) => {
    tape.status = answer.statusCode
    tape.answer = `${lines(answer.rawHeaders)}\n`
    answer.on('data', (chunk: Buffer) => {
      tape.answer += chunk.toString('latin1')
    })
    res.writeHead(answer.statusCode ?? 502, answer.headers)
    res.flushHeaders()
    pipeline(answer, res, () => {
      tape.ended = true
    })
  })
  req.on('data', (chunk: Buffer) => {
    tape.request += chunk.toString('latin1')
  })
  pipeline(req, onward, () => {})
  onward.once('error', () => res.destroy())
  res.once('close', () => onward.destroy())
}

function lines(rawHeaders: readonly string[]): string {
  return rawHeaders.map((text, index) => text + (index % 2 === 0 ? ': ' : '\n')).join('')
}

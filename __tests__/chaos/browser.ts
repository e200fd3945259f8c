import { request as httpRequest } from 'node:http'
import type { RunningProcess } from './site-processes.js'

/** How long a request waits for a response. */
const PATIENCE_MS = 60_000

/** The end of a request: a response, or a failure because the process died or the browser disconnected. */
export interface Outcome {
  readonly status?: number
  // biome-ignore lint/suspicious/noExplicitAny: the caller knows the site's responses.
  readonly json?: any
  readonly sessionCookie?: string
  readonly failure?: string
}

export interface Request {
  readonly method: 'GET' | 'POST'
  readonly path: string
  readonly cookie?: string | undefined
  readonly body?: object
  readonly abortAfterMs?: number | undefined
}

/** Sends one request to one process of the site. Never rejects. */
export function ask({ port, agent }: RunningProcess, request: Request): Promise<Outcome> {
  const { method, path, cookie, body, abortAfterMs } = request
  const text = body && JSON.stringify(body)
  const headers = {
    ...(cookie !== undefined && { cookie }),
    ...(text !== undefined && { 'content-type': 'application/json' }),
    ...(text !== undefined && { 'content-length': Buffer.byteLength(text) }),
  }
  return new Promise((resolve) => {
    const sent = httpRequest({ host: '127.0.0.1', port, method, path, headers, agent }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', (error) => resolve({ failure: error.message }))
      response.on('close', () => resolve({ failure: 'the response broke off' }))
      response.on('end', () => {
        const setCookie = response.headers['set-cookie']?.find((line) => line.startsWith('connect.sid='))
        const sessionCookie = setCookie?.split(';')[0]
        resolve({
          status: response.statusCode ?? 0,
          json: parsed(Buffer.concat(chunks).toString()),
          ...(sessionCookie !== undefined && { sessionCookie }),
        })
      })
    })
    const patience = setTimeout(
      () => sent.destroy(new Error(abortAfterMs === undefined ? 'no response in time' : 'left')),
      abortAfterMs ?? PATIENCE_MS,
    )
    sent.on('error', (error) => resolve({ failure: error.message }))
    sent.on('close', () => clearTimeout(patience))
    sent.end(text)
  })
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return { text }
  }
}

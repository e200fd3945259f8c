import type { IncomingMessage, ServerResponse } from 'node:http'
import { ConfigurationError } from '../errors/token-error.js'
import type { ReportingContext } from '../middleware/report-error.js'
import { RequestTokens } from '../middleware/request-tokens.js'
import { type ArrivedRequest, hostAskedFor, type KnownOfRequest } from '../outbound/cross-origin.js'

/** A response of the login. */
export interface Reply {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** A request, as a framework has it. */
export interface LoginRequest {
  /** The framework's request or context, which functions of the app get. */
  readonly carrier: object
  readonly carrierName: 'req' | 'ctx'
  readonly message: IncomingMessage
  readonly response: ServerResponse
  /** The path and the query, as the browser sent them. */
  readonly path: string
  readonly known: KnownOfRequest
  /** The body as a body parser in front has read it. */
  readonly parsedBody: unknown
}

/** The properties of an Express request that are used. */
export type ExpressCarrier = IncomingMessage & {
  readonly originalUrl?: string
  readonly protocol?: string
  readonly body?: unknown
}

/** The properties of Koa's context that are used. */
export interface KoaCarrier extends ReportingContext {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly request: { readonly body?: unknown }
  readonly originalUrl: string
  readonly protocol: string
  readonly host: string
  status: number
  body: unknown
  set(headers: Record<string, string>): void
}

export function requestOfExpress(carrier: ExpressCarrier, response: ServerResponse): LoginRequest {
  const { body: parsedBody, protocol } = carrier
  const host = hostAskedFor(carrier as ArrivedRequest)
  const path = pathOfExpress(carrier)
  return {
    carrier,
    carrierName: 'req',
    message: carrier,
    response,
    path,
    known: { protocol, host },
    parsedBody,
  }
}

export function pathOfExpress({ originalUrl, url = '/' }: ExpressCarrier): string {
  return originalUrl ?? url
}

export function requestOfKoa(carrier: KoaCarrier): LoginRequest {
  const { host, originalUrl: path, protocol, req: message, request, res: response } = carrier
  const known = { host, protocol }
  return { carrier, carrierName: 'ctx', message, response, path, known, parsedBody: request.body }
}

/** Returns the parameters in the query of a path. */
export function queryOf(path: string): URLSearchParams {
  const at = path.indexOf('?')
  return new URLSearchParams(at === -1 ? '' : path.slice(at))
}

/** Returns the tokens that `sessionTokens()` has attached to a request. */
export function tokensOf({ carrier, carrierName }: LoginRequest, property: string): RequestTokens {
  const tokens = (carrier as Record<string, unknown>)[property]
  if (tokens instanceof RequestTokens) return tokens
  throw new ConfigurationError(
    `${carrierName}.${property} is missing. Mount sessionTokens() before login(), or name its \`property\`: login({ property }).`,
  )
}

export function redirect(location: string): Reply {
  // 303 has the browser send GET, also after a POST (RFC 9110 §15.4.4).
  return { status: 303, headers: { location, 'cache-control': 'no-store' }, body: '' }
}

export function json(status: number, value: unknown): Reply {
  return {
    status,
    headers: {
      'content-type': 'application/json; charset=utf-8',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    },
    body: JSON.stringify(value),
  }
}

/** Whether a browser asks for a page to show, rather than a script for data. */
export function asksForPage({ message: { headers } }: LoginRequest): boolean {
  const mode = headers['sec-fetch-mode']
  if (mode !== undefined) return mode === 'navigate'
  return headers.accept?.includes('text/html') ?? false
}

export function sendExpress(reply: Reply, response: ServerResponse): void {
  response.statusCode = reply.status
  for (const [name, value] of Object.entries(reply.headers)) response.setHeader(name, value)
  response.end(reply.body)
}

export function sendKoa(reply: Reply, ctx: KoaCarrier): void {
  ctx.status = reply.status
  ctx.body = reply.body
  // Koa has guessed a type.
  ctx.res.removeHeader('content-type')
  ctx.set({ ...reply.headers })
}

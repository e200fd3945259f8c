import type { IncomingMessage, ServerResponse } from 'node:http'
import { ConfigurationError, TokenError } from '../errors.js'
import { checkedProperty, refuseUnknown } from '../options.js'
import { RequestTokens } from '../session-tokens.js'
import type { TokenNeed } from '../token-set.js'

/** What a route needs, and what becomes of those who have no tokens. */
export interface RequireTokensOptions extends Omit<TokenNeed, 'rejected'> {
  /**
   * Where a browser that asks for a page is sent to log in: a path, or an absolute URL. The path it came for is
   * appended as `returnTo`. Left out: everyone without tokens gets 401.
   */
  loginPath?: string
  /** The name of the query parameter with the return path. Default: `'returnTo'`. */
  returnToParameter?: string
  /** The `property` of the `sessionTokens()` in question. Default: `'tokens'`. */
  property?: string
}

type Next = (error?: unknown) => void
type GuardedRequest = IncomingMessage & { originalUrl?: string; [property: string]: unknown }

const OPTIONS = ['scope', 'resource', 'minValidityMs', 'loginPath', 'returnToParameter', 'property'] as const
/** The options that are texts, each with an example. */
const TEXTS = { scope: 'orders.read', resource: 'https://api.example.com', returnToParameter: 'returnTo' }

/**
 * Guards a route: the handler runs with a fresh access token at hand, or not at all. What is asked for here is the
 * default of `getAccessToken()` and `axios()` for the rest of the request.
 *
 * Without tokens a page is redirected to `loginPath`, and everything else is answered with 401 and a problem body
 * (RFC 9457). Other failures go to the app's error handler as `TokenError`.
 *
 * @example
 * app.get('/orders', requireTokens({ scope: 'orders.read', loginPath: '/login' }), handler)
 */
export function requireTokens(options: RequireTokensOptions = {}) {
  checkOptions(options)
  const { loginPath, returnToParameter = 'returnTo', property: _, ...need } = options
  const property = checkedProperty(options.property)

  return async function requireTokensMiddleware(
    request: IncomingMessage,
    response: ServerResponse,
    next: Next,
  ): Promise<void> {
    const guarded = request as GuardedRequest
    const tokens = guarded[property]
    if (!(tokens instanceof RequestTokens)) {
      next(
        new ConfigurationError(`req.${property} is missing. Mount sessionTokens() before requireTokens().`),
      )
      return
    }
    try {
      await tokens.require(need)
    } catch (error) {
      if (!(error instanceof TokenError) || error.status !== 401) next(error)
      else if (loginPath !== undefined && asksForPage(request)) {
        redirectToLogin(response, loginPath, returnToParameter, guarded.originalUrl ?? request.url ?? '/')
      } else answerUnauthorized(response)
      return
    }
    next()
  }
}

function checkOptions(options: RequireTokensOptions): void {
  if (typeof options !== 'object' || options === null) {
    throw new ConfigurationError("requireTokens() takes an object: requireTokens({ loginPath: '/login' }).")
  }
  refuseUnknown(options, OPTIONS, 'requireTokens()')
  const { loginPath, minValidityMs } = options
  for (const [name, example] of Object.entries(TEXTS)) {
    const value: unknown = options[name as keyof typeof TEXTS]
    if (value !== undefined && (typeof value !== 'string' || value.trim() === '')) {
      throw new ConfigurationError(
        `\`${name}\` must be a string that is not empty, e.g. ${name}: '${example}'. Leave it out if there is none.`,
      )
    }
  }
  if (minValidityMs !== undefined && !(Number.isFinite(minValidityMs) && minValidityMs >= 0)) {
    throw new ConfigurationError(
      '`minValidityMs` must be a number of milliseconds from 0, e.g. minValidityMs: 60000.',
    )
  }
  if (loginPath !== undefined && !isPath(loginPath) && !isHttpsUrl(loginPath)) {
    throw new ConfigurationError("`loginPath` must be a path such as '/login', or an absolute https URL.")
  }
}

function isPath(path: unknown): boolean {
  return typeof path === 'string' && /^\/(?![/\\])/.test(path)
}

function isHttpsUrl(url: unknown): boolean {
  return typeof url === 'string' && /^https:\/\/[^/\\]/.test(url) && URL.canParse(url)
}

/** Whether a browser asks for a page to show, rather than a script for data. */
function asksForPage(request: IncomingMessage): boolean {
  if (request.method !== 'GET' && request.method !== 'HEAD') return false
  const mode = request.headers['sec-fetch-mode']
  if (mode !== undefined) return mode === 'navigate'
  return request.headers.accept?.includes('text/html') ?? false
}

function redirectToLogin(response: ServerResponse, loginPath: string, parameter: string, path: string): void {
  // A path of two slashes would be another host to a browser that is sent there later.
  const returnTo = isPath(path) ? path : '/'
  const separator = loginPath.includes('?') ? '&' : '?'
  const location = `${loginPath}${separator}${new URLSearchParams({ [parameter]: returnTo })}`
  response.writeHead(302, { Location: location, 'Cache-Control': 'no-store' })
  response.end()
}

function answerUnauthorized(response: ServerResponse): void {
  const problem = { type: 'about:blank', title: 'Unauthorized', status: 401, detail: 'Log in first.' }
  response.writeHead(401, { 'Content-Type': 'application/problem+json', 'Cache-Control': 'no-store' })
  response.end(JSON.stringify(problem))
}

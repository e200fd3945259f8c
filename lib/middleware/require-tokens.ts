import type { IncomingMessage } from 'node:http'
import { problemOf } from '../errors/problem-details.js'
import { ConfigurationError, isLoggedOutError } from '../errors/token-error.js'
import { duration, flag, oneOf, optional, propertyName, text } from '../options/option-kinds.js'
import { checkOptions, type OptionTable } from '../options/option-table.js'
import { exchangeOption, type TokenNeed } from '../tokens/token-need.js'
import type { UserPolicy } from '../tokens/token-source.js'
import { RequestTokens } from './request-tokens.js'
import { returnPath } from './return-path.js'

/** The token that a route needs, and the response to a request without tokens. */
export interface RequireTokensOptions extends Omit<TokenNeed, 'rejected'> {
  /**
   * Whether the calls of this route carry the user's token: always (`'required'`), if the user is logged in (`'optional'`), or
   * never (`'none'`, with neither a need nor a `loginPath`). Only `'required'` rejects requests. Default: `'required'`.
   */
  user?: UserPolicy
  /**
   * Whether an access token is refreshed on this route. With `false` the route uses a token that is valid, and never refreshes it,
   * not even ahead of its expiry: so a poll does not keep a login alive. Without a valid token the request counts as a request
   * without tokens. Default: `true`.
   */
  refresh?: boolean
  /**
   * The path, or the absolute URL, of the login. A browser that requests a page without tokens is redirected there, with the
   * path of that page in `returnTo`. Mount the login before the guard. If left out, every request without tokens gets 401.
   */
  loginPath?: string
  /** The name of the query parameter with the return path. Default: `'returnTo'`. */
  returnToParameter?: string
  /** The `property` of `sessionTokens()`. Default: `'tokens'`. */
  property?: string
}

const OPTIONS = {
  user: checkUser,
  refresh: flag(true),
  scope: optional(text('orders.read')),
  resource: optional(text('https://api.example.com')),
  audience: optional(text('orders')),
  exchange: exchangeOption,
  minValidityMs: optional(duration(60_000, { least: 0, most: Infinity })),
  loginPath: optional(checkLoginPath),
  returnToParameter: text('returnTo'),
  property: propertyName('tokens'),
} satisfies OptionTable<RequireTokensOptions>

const USAGE = {
  of: 'requireTokens()',
  takes: "requireTokens() takes an object: requireTokens({ loginPath: '/login' })",
  mount: "app.get('/orders', requireTokens(), handler)",
  cures: {
    loginUrl: 'Did you mean `loginPath`?',
    loginURL: 'Did you mean `loginPath`?',
    returnTo: 'Did you mean `returnToParameter`?',
  },
}

/** The options that have no meaning on a route that needs no token, and on one that needs no user. */
const POINTLESS: Partial<Record<UserPolicy, readonly string[]>> = {
  none: ['scope', 'resource', 'audience', 'exchange', 'minValidityMs', 'refresh', 'loginPath'],
  client: ['exchange', 'refresh', 'loginPath'],
}

/** The response of a guard, in place of the response of the route. */
export interface GuardResponse {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/**
 * Gets a route's token. Resolves with a response if there are no tokens, and rejects with any other failure.
 *
 * @param carrier the framework's request or context, which has the tokens
 * @param path the path to return to after the login
 */
export type Guard = (
  carrier: object,
  request: IncomingMessage,
  path: string | undefined,
) => Promise<GuardResponse | undefined>

/** Makes a guard. `carrierName` names the object that has the tokens in messages. */
export function guardOf(options: RequireTokensOptions, carrierName: string): Guard {
  const { user, refresh, loginPath, returnToParameter, property, ...need } = checkOptions(
    options,
    OPTIONS,
    USAGE,
  )

  return async (carrier, request, path) => {
    const tokens = (carrier as Record<string, unknown>)[property]
    if (!(tokens instanceof RequestTokens)) {
      throw noTokensError(tokens, `${carrierName}.${property}`)
    }
    try {
      await tokens.enterRoute(need, user, refresh)
      return undefined
    } catch (error) {
      if (!isLoggedOutError(error)) throw error
      if (loginPath !== undefined && isAt(loginPath, path ?? '/')) throw guardsOwnLoginError(loginPath)
      if (loginPath === undefined || !asksForPage(request)) return problemOf(error)
      return redirectToLogin(loginPath, returnToParameter, path ?? '/')
    }
  }
}

function checkUser(value: unknown, name: string, all: Readonly<Record<string, unknown>>): UserPolicy {
  const user = oneOf(['required', 'optional', 'none', 'client'])(value, name, all)
  const pointless = (POINTLESS[user] ?? []).find((other) => all[other] !== undefined)
  if (pointless === undefined) return user
  if (user === 'client') {
    throw new ConfigurationError(
      `user: 'client' needs no user, so \`${pointless}\` has no meaning. Leave out one of them.`,
    )
  }
  throw new ConfigurationError(
    `user: 'none' asks for no token, so \`${pointless}\` has no meaning. Leave out one of them.`,
  )
}

function checkLoginPath(path: unknown): unknown {
  if (isPath(path) || isHttpsUrl(path)) return path
  throw new ConfigurationError("`loginPath` must be a path such as '/login', or an absolute https URL.")
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

/** Whether a request is for the login itself, by its path and by the query that `loginPath` may have. */
function isAt(loginPath: string, path: string): boolean {
  if (!isPath(loginPath)) return false
  const [login, asked] = [loginPath, returnPath(path)].map((each) => new URL(each, 'http://localhost'))
  const query = [...login!.searchParams]
  return (
    asked!.pathname === login!.pathname &&
    query.every(([name, value]) => asked!.searchParams.getAll(name).includes(value))
  )
}

function noTokensError(found: unknown, name: string): ConfigurationError {
  if (found === undefined) {
    return new ConfigurationError(
      `${name} is missing. Mount sessionTokens() before requireTokens(), or name its \`property\`: requireTokens({ property }).`,
    )
  }
  return new ConfigurationError(
    `${name} is foreign: it was not made by this copy of session-token-manager. Install the package once. In a test, use fakeTokens() ` +
      "of 'session-token-manager/testing' in place of a stub.",
  )
}

function guardsOwnLoginError(loginPath: string): ConfigurationError {
  return new ConfigurationError(
    `requireTokens() guards its own loginPath '${loginPath}'. Mount the login before it.`,
  )
}

function redirectToLogin(loginPath: string, parameter: string, path: string): GuardResponse {
  const separator = loginPath.includes('?') ? '&' : '?'
  const location = `${loginPath}${separator}${new URLSearchParams({ [parameter]: returnPath(path) })}`
  return { status: 302, headers: { Location: location, 'Cache-Control': 'no-store' }, body: '' }
}

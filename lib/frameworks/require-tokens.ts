import type { IncomingMessage } from 'node:http'
import { ConfigurationError, isNobody } from '../errors.js'
import { checkedProperty } from '../option-checks.js'
import { ownOptions } from '../own-options.js'
import { unauthorized } from '../problem.js'
import { RequestTokens } from '../session-tokens.js'
import type { TokenNeed } from '../token-set.js'
import type { UserPolicy } from '../token-source.js'
import { refuseRequest } from '../uncalled.js'
import { returnPath } from './return-path.js'

/** What a route needs, and what becomes of those who have no tokens. */
export interface RequireTokensOptions extends Omit<TokenNeed, 'rejected'> {
  /**
   * Whose token the calls of this route carry: the user's (`'required'`), the user's if somebody is logged in and none if
   * nobody is (`'optional'`), or none at all (`'none'`, with neither a need nor a `loginPath`). Only `'required'` keeps
   * anybody out. Default: `'required'`.
   */
  user?: UserPolicy
  /**
   * Where a browser that asks for a page is sent to log in: a path, or an absolute URL. The path it came for is
   * appended as `returnTo`. The login itself is mounted before the guard. Left out: everyone without tokens gets 401.
   */
  loginPath?: string
  /** The name of the query parameter with the return path. Default: `'returnTo'`. */
  returnToParameter?: string
  /** The `property` of the `sessionTokens()` in question. Default: `'tokens'`. */
  property?: string
}

const OPTIONS = [
  'user',
  'scope',
  'resource',
  'audience',
  'minValidityMs',
  'loginPath',
  'returnToParameter',
  'property',
] as const satisfies readonly (keyof RequireTokensOptions)[]
/** What one might take for the names of options. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  loginUrl: 'Did you mean `loginPath`?',
  loginURL: 'Did you mean `loginPath`?',
  returnTo: 'Did you mean `returnToParameter`?',
}
const USERS: readonly unknown[] = ['required', 'optional', 'none'] satisfies UserPolicy[]
/** What means nothing on a route that carries nobody's token. */
const NOT_FOR_NOBODY = ['scope', 'resource', 'audience', 'minValidityMs', 'loginPath'] as const
/** The options that are texts, each with an example. */
const TEXTS = {
  scope: 'orders.read',
  resource: 'https://api.example.com',
  audience: 'orders',
  returnToParameter: 'returnTo',
}

/** What is answered instead of the route. */
export interface Refusal {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/**
 * Makes sure of a route's tokens. Resolves with the answer for those who have none, and rejects with any other failure.
 *
 * @param carrier is what the framework hands to its handlers, with the tokens on it
 * @param path is where a browser that is sent to the login wants to come back to
 */
export type Guard = (
  carrier: object,
  request: IncomingMessage,
  path: string | undefined,
) => Promise<Refusal | undefined>

/** Checks the options. `carrierName` is what handlers usually call the object that has the tokens. */
export function guardOf(options: RequireTokensOptions, carrierName: string): Guard {
  const { user = 'required', loginPath, returnToParameter = 'returnTo', ...checked } = checkedOptions(options)
  const { property: named, ...need } = checked
  const property = checkedProperty(named)

  return async (carrier, request, path) => {
    const tokens = (carrier as Record<string, unknown>)[property]
    if (!(tokens instanceof RequestTokens)) {
      throw new ConfigurationError(
        `${carrierName}.${property} is missing. Mount sessionTokens() before requireTokens(), or name its \`property\`: ` +
          'requireTokens({ property }).',
      )
    }
    try {
      await tokens.enterRoute(need, user)
      return undefined
    } catch (error) {
      if (!isNobody(error)) throw error
      if (loginPath !== undefined && isAt(loginPath, path ?? '/')) throw guardsLogin(loginPath)
      if (loginPath === undefined || !asksForPage(request)) return unauthorized()
      return redirectToLogin(loginPath, returnToParameter, path ?? '/')
    }
  }
}

function checkedOptions(given: RequireTokensOptions): RequireTokensOptions {
  if (typeof given !== 'object' || given === null) {
    throw new ConfigurationError("requireTokens() takes an object: requireTokens({ loginPath: '/login' }).")
  }
  refuseRequest(given, "app.get('/orders', requireTokens(), handler)")
  const options = ownOptions(given, OPTIONS, 'requireTokens()', ELSEWHERE)
  const { loginPath, minValidityMs, user } = options
  const pointless = NOT_FOR_NOBODY.find((name) => options[name] !== undefined)
  if (user === 'none' && pointless) {
    throw new ConfigurationError(
      `user: 'none' asks for no token, so \`${pointless}\` has no meaning. Leave out one of them.`,
    )
  }
  if (user !== undefined && !USERS.includes(user)) {
    throw new ConfigurationError("`user` must be 'required', 'optional' or 'none', or left out.")
  }
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
  return options
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

function guardsLogin(loginPath: string): ConfigurationError {
  return new ConfigurationError(
    `requireTokens() guards its own loginPath '${loginPath}'. Mount the login before it.`,
  )
}

function redirectToLogin(loginPath: string, parameter: string, path: string): Refusal {
  const separator = loginPath.includes('?') ? '&' : '?'
  const location = `${loginPath}${separator}${new URLSearchParams({ [parameter]: returnPath(path) })}`
  return { status: 302, headers: { Location: location, 'Cache-Control': 'no-store' }, body: '' }
}

import { ConfigurationError } from '../errors/token-error.js'
import { propertyName } from '../options/option-kinds.js'
import { checkOptions, type OptionTable } from '../options/option-table.js'

export interface LoggedInOptions {
  /** The `property` of `sessionTokens()`. Default: `'tokens'`. */
  property?: string
}

const OPTIONS = { property: propertyName('tokens') } satisfies OptionTable<LoggedInOptions>

const USAGE = {
  of: 'loggedIn()',
  takes: "The options of loggedIn() must be an object: loggedIn(tokens, { property: 'tokens' })",
}

const HOUR_S = 3600

/** The methods of `req.tokens` that a login needs. */
interface Tokens {
  hasTokens(): boolean
  set(tokenResponse: unknown): Promise<void>
}

/**
 * Logs in every session that holds no tokens, in place of a login, for tests. It is middleware for Express and for Koa. Mount it
 * after `sessionTokens()`.
 *
 * @param tokens A token response, as `set()` takes it, or a function that makes one for each login. Default: an access token
 * that is valid for an hour, and no refresh token.
 *
 * @throws `ConfigurationError` when an option is wrong
 *
 * @example
 * app.use(sessionTokens({ issuer: idp.issuer, … }))
 * app.use(loggedIn(() => idp.tokens()))
 */
export function loggedIn(tokens: object | (() => object) = defaultTokens, options: LoggedInOptions = {}) {
  const { property } = checkOptions(options, OPTIONS, USAGE)

  async function login(carrier: object): Promise<void> {
    const held = (carrier as Record<string, Tokens | undefined>)[property]
    if (typeof held?.hasTokens !== 'function') {
      throw new ConfigurationError(
        `loggedIn() finds no \`${property}\`. Mount sessionTokens() before it, or name its \`property\`: loggedIn(tokens, { property }).`,
      )
    }
    if (!held.hasTokens()) await held.set(typeof tokens === 'function' ? tokens() : tokens)
  }

  /** Express passes a request, a response and `next`; Koa a context and `next`. */
  return function loggedInMiddleware(
    carrier: object,
    responseOrNext: unknown,
    next?: (error?: unknown) => void,
  ): Promise<void> {
    if (next) return login(carrier).then(() => next(), next)
    return login(carrier).then(responseOrNext as () => Promise<void>)
  }
}

function defaultTokens(): object {
  return { access_token: 'test-access-token', token_type: 'Bearer', expires_in: HOUR_S }
}

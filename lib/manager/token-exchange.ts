import { ConfigurationError, StepUpError, TokenError } from '../errors/token-error.js'
import type { Grant } from '../grants/grant.js'
import type { FailedRefresh, RefreshResponse } from '../oauth/authorization-server.js'
import { ownProperties } from '../options/own-properties.js'
import { suggest } from '../options/unknown-options.js'
import { usableToken } from '../tokens/access-token.js'
import { NO_NEED } from '../tokens/token-need.js'
import type { TokenSet } from '../tokens/token-set.js'
import type { ManagerContext } from './manager-context.js'

/** @throws `ConfigurationError` with the right name, if there is no exchange of this name */
export function requireExchange(name: string, known: readonly string[]): void {
  if (known.includes(name)) return
  const closest = suggest(name, known)
  const cure = closest
    ? `Did you mean \`${closest}\`?`
    : `Known are ${known.join(', ') || 'none'}. Add it: exchanges: { billing: { audience: 'billing' } }.`
  throw new ConfigurationError(
    `The option \`exchanges\` of sessionTokens() has no exchange of the name that is needed. ${cure}`,
  )
}

/** The step of a refresh that exchanges the session's own access token for the one of a need (RFC 8693). */
export class TokenExchange {
  readonly #name: string
  readonly #context: ManagerContext
  readonly #grant: Grant
  /** The revision of the tokens whose own access token the authorization server did not accept. */
  #refusedRevision: number | undefined
  /** The last response, until it is kept, and when it arrived, on the monotonic clock. */
  #unkept:
    | { readonly subjectToken: string; readonly response: RefreshResponse; readonly at: number }
    | undefined

  constructor(name: string, context: ManagerContext, grant: Grant) {
    this.#name = name
    this.#context = context
    this.#grant = grant
  }

  /**
   * Exchanges the session's own access token. Resolves with `undefined` if that token has to be refreshed first: it is about to
   * expire, or the server did not accept it. After the refresh it is exchanged again, even if the server has returned the same
   * token. If the server does not accept it a second time, only the need fails. A response that could not be kept is returned once
   * more, if the token is still the same.
   *
   * @param send requests the exchange
   */
  async run(
    tokens: TokenSet,
    send: (subjectToken: string) => Promise<RefreshResponse | FailedRefresh>,
  ): Promise<RefreshResponse | undefined> {
    if (this.#refusedRevision === tokens.revision) return undefined
    const subject = usableToken(tokens, NO_NEED, this.#grant.now(), this.#context.leeway)
    if (!subject) return undefined
    const unkept = this.takeUnkept(subject.token)
    if (unkept) return unkept
    try {
      const response = await send(subject.token)
      if ('error' in response) throw response.error
      this.#unkept = { subjectToken: subject.token, response, at: this.#context.clock.monotonic() }
      return response
    } catch (error) {
      const failure = error as TokenError
      const isOfSubject = failure.code === 'ERR_REAUTHENTICATION_REQUIRED'
      if (isOfSubject && this.#refusedRevision === undefined && tokens.refreshToken !== undefined) {
        this.#refusedRevision = tokens.revision
        return undefined
      }
      throw exchangeError(this.#name, failure)
    }
  }

  /**
   * Returns a response that could not be kept, once, with the lifetime that is left; only if it is that for a subject token, if one is
   * given.
   */
  takeUnkept(subjectToken?: string): RefreshResponse | undefined {
    const unkept = this.#unkept
    this.#unkept = undefined
    if (!unkept || (subjectToken !== undefined && unkept.subjectToken !== subjectToken)) return undefined
    const { at, response } = unkept
    if (response.lifetimeMs === undefined) return response
    const lifetimeMs = response.lifetimeMs - (this.#context.clock.monotonic() - at)
    return lifetimeMs > 0 ? ownProperties({ ...response, lifetimeMs }) : undefined
  }
}

/**
 * Returns the error for a token exchange that failed. If the authorization server has refused the exchange, only callers with
 * this need get the error. The grant does not end, whatever the error code is.
 */
function exchangeError(name: string, failure: TokenError): TokenError {
  const { code, error, errorDescription } = failure
  if (error === undefined || failure instanceof StepUpError || failure.retryable) return failure
  const isOfUser = code === 'ERR_REAUTHENTICATION_REQUIRED' || code === 'ERR_INSUFFICIENT_SCOPE'
  return new TokenError(
    isOfUser ? 'ERR_INSUFFICIENT_SCOPE' : 'ERR_TOKEN_ENDPOINT',
    `The authorization server refused the exchange \`${name}\`. Check the option \`exchanges\`, and that the server lets this ` +
      'client exchange tokens. The cause has the response. The other tokens of the session stay valid.',
    { cause: failure, error, errorDescription },
  )
}

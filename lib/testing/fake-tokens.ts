import { StepUpError, TokenError, type TokenErrorCode } from '../errors/token-error.js'
import { RequestTokens } from '../middleware/request-tokens.js'
import type { SessionTokens } from '../middleware/session-tokens.js'
import { anyString, checkedBy, flag, optional, text, unchecked } from '../options/option-kinds.js'
import { checkOptions, type OptionTable } from '../options/option-table.js'
import { scopesOf } from '../tokens/access-token.js'
import { ReturnedToken } from '../tokens/returned-token.js'
import type { TokenNeed } from '../tokens/token-need.js'
import type { ValidAccessToken } from '../tokens/token-source.js'

/** The options of `fakeTokens()`. */
export interface FakeTokensOptions {
  /** The access token. Default: `'fake-access-token'`. */
  token?: string
  /** The granted scopes, separated by spaces. A need for another scope fails with `ERR_INSUFFICIENT_SCOPE`. Default: any scope. */
  scope?: string
  /** Whether the user is logged in. Default: `true`. */
  loggedIn?: boolean
  /** The claims of the ID token. Default: none. */
  idTokenClaims?: Readonly<Record<string, unknown>>
  /** The error of every call for a token: a code, or an error such as `new StepUpError({ acrValues: 'mfa' })`. */
  error?: TokenErrorCode | TokenError
}

const OPTIONS = {
  token: text('fake-access-token'),
  scope: optional(anyString),
  loggedIn: flag(true),
  idTokenClaims: optional(unchecked),
  error: optional(checkedBy(() => {})),
} satisfies OptionTable<FakeTokensOptions>

const USAGE = {
  of: 'fakeTokens()',
  takes: "fakeTokens() takes an object: fakeTokens({ scope: 'orders.read' })",
  cures: { access_token: 'Did you mean `token`?', accessToken: 'Did you mean `token`?' },
}

/** `req.tokens` without a session, a server and a refresh. */
class FakeTokens extends RequestTokens {
  readonly #options: FakeTokensOptions & { readonly token: string }
  #isLoggedIn: boolean
  #login = new AbortController()

  constructor(options: FakeTokensOptions) {
    super({} as never, {} as never, undefined, {} as never, {} as never)
    this.#options = checkOptions(options, OPTIONS, USAGE)
    this.#isLoggedIn = this.#options.loggedIn !== false
  }

  override async getAccessToken({ scope: needed }: TokenNeed = {}): Promise<ValidAccessToken> {
    const { error, scope, token } = this.#options
    if (!this.#isLoggedIn) throw new TokenError('ERR_NO_TOKENS', 'fakeTokens(): the user is not logged in.')
    if (error !== undefined) throw typeof error === 'string' ? errorOf(error) : error
    const granted = scopesOf(scope)
    if (scope !== undefined && [...scopesOf(needed)].some((each) => !granted.has(each))) {
      throw new TokenError(
        'ERR_INSUFFICIENT_SCOPE',
        'fakeTokens(): its option `scope` lacks the needed scope.',
      )
    }
    const now = Date.now()
    const held = { token, tokenType: 'Bearer', obtainedAt: now, expiresAt: now + 3_600_000 }
    return new ReturnedToken(scope === undefined ? held : { ...held, scope })
  }

  override async set(): Promise<void> {
    this.#isLoggedIn = true
  }

  override async acquire(): Promise<void> {
    this.#isLoggedIn = true
  }

  override async clear(): Promise<void> {
    this.#isLoggedIn = false
    this.#login.abort(errorOf('ERR_REAUTHENTICATION_REQUIRED'))
    this.#login = new AbortController()
  }

  override revoke(): Promise<void> {
    return this.clear()
  }

  override get signal(): AbortSignal {
    return this.#isLoggedIn ? this.#login.signal : AbortSignal.abort(errorOf('ERR_NO_TOKENS'))
  }

  override onEnd(listener: () => void): (() => void) | undefined {
    const { signal } = this.#login
    if (!this.#isLoggedIn) return undefined
    signal.addEventListener('abort', listener, { once: true })
    return () => signal.removeEventListener('abort', listener)
  }

  override async logoutUrl(): Promise<string> {
    return 'https://idp.example.com/logout'
  }

  override async offlineReference(): Promise<string> {
    return 'fake-offline-reference'
  }

  override hasTokens(): boolean {
    return this.#isLoggedIn
  }

  override secrets(): readonly string[] {
    return [this.#options.token]
  }

  override get grantId(): string | undefined {
    return this.#isLoggedIn ? 'fake-grant' : undefined
  }

  override get idToken(): undefined {
    return undefined
  }

  override get idTokenClaims(): Readonly<Record<string, unknown>> | undefined {
    return this.#isLoggedIn ? this.#options.idTokenClaims : undefined
  }
}

function errorOf(code: TokenErrorCode): TokenError {
  return code === 'ERR_STEP_UP_REQUIRED'
    ? new StepUpError({})
    : new TokenError(code, `fakeTokens(): ${code}.`)
}

/**
 * Makes a `req.tokens` for tests of a handler alone, without a session and without a server. `requireTokens()` accepts it, and
 * calls by `axios()` and `fetch()` carry its token. `set()` and `acquire()` log in, `clear()` and `revoke()` log out.
 *
 * @throws `ConfigurationError` when an option is wrong
 *
 * @example
 * app.use((req, res, next) => {
 *   req.tokens = fakeTokens({ scope: 'orders.read' })
 *   next()
 * })
 */
export function fakeTokens(options: FakeTokensOptions = {}): SessionTokens {
  return new FakeTokens(options)
}

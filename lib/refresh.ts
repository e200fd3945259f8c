import type { Clock } from './clock.js'
import { within } from './deadline.js'
import { TokenError } from './errors.js'
import type { TokenEventListener } from './events.js'
import type { GrantState, GrantStore } from './grants/grant-store.js'
import type { KnownGrants } from './grants/known-grants.js'
import { Lease } from './grants/lease.js'
import type { AuthorizationServer, RefreshAnswer } from './oauth/authorization-server.js'
import { checkRefreshedIdToken } from './oauth/id-token.js'
import type { SessionAdapter } from './sessions/session-adapter.js'
import type { SessionCopies } from './sessions/session-copy.js'
import {
  type AccessToken,
  deadTokenSet,
  mergeTokens,
  newest,
  secretsOf,
  type TokenNeed,
  type TokenSet,
  usableToken,
  withoutRefreshToken,
} from './token-set.js'

/** What a refresh works with. */
export interface RefreshContext {
  readonly server: AuthorizationServer
  readonly clientId: string
  readonly issuer?: string
  readonly grants: GrantStore
  readonly known: KnownGrants
  readonly copies: SessionCopies
  readonly clock: Clock
  readonly emit: TokenEventListener
  readonly leewayMs: number
  readonly refreshTimeoutMs: number
  readonly defaultLifetimeMs: number
}

export interface RefreshOutcome {
  readonly accessToken: AccessToken
  /** Whether the token came from the authorization server just now, rather than from whoever was faster. */
  readonly fresh: boolean
}

/** How long an operation of the grant store may take, beyond the time it is asked to wait. */
const GRANT_STORE_TIMEOUT_MS = 5_000

/**
 * One refresh of one grant, from taking the lease to storing what came of it: lease, read again, decide.
 *
 * It belongs to no request: whoever asked for it may be gone by the time it ends.
 */
export class Refresh {
  readonly #context: RefreshContext
  readonly #session: SessionAdapter
  readonly #need: TokenNeed
  readonly #lease: Lease
  #tokens: TokenSet
  /** Every token that has been in play, newer and older: none of them may show in an error. */
  readonly #secrets: string[]

  constructor(context: RefreshContext, session: SessionAdapter, tokens: TokenSet, need: TokenNeed) {
    this.#context = context
    this.#session = session
    this.#tokens = tokens
    this.#secrets = secretsOf(tokens)
    this.#need = need
    this.#lease = new Lease(context.grants, tokens.grantId)
  }

  async run(): Promise<RefreshOutcome> {
    const startedAt = this.#context.clock.monotonic()
    try {
      const adopted = (await this.#takeLease()) ?? (await this.#readAgain())
      if (adopted) return { accessToken: adopted, fresh: false }
      const accessToken = await this.#refresh()
      const durationMs = this.#context.clock.monotonic() - startedAt
      const { grantId, revision } = this.#tokens
      this.#context.emit({ type: 'refreshed', grantId, revision, durationMs })
      return { accessToken, fresh: true }
    } finally {
      // Where the store cannot be reached the lease ends by itself.
      await this.#lease.release().catch(() => {})
    }
  }

  /** Waits for the lease. Resolves with a token instead when another process committed one that serves the need. */
  async #takeLease(): Promise<AccessToken | undefined> {
    const { clock, refreshTimeoutMs } = this.#context
    const deadline = clock.monotonic() + 2 * refreshTimeoutMs
    for (;;) {
      const waitMs = Math.max(0, deadline - clock.monotonic())
      const answer = await this.#askGrantStore(
        this.#lease.take(this.#tokens.revision, waitMs),
        waitMs + GRANT_STORE_TIMEOUT_MS,
      )
      this.#adopt(answer)
      const usable = this.#usable()
      if (usable || answer.granted) return usable
      if (clock.monotonic() >= deadline) {
        throw new TokenError(
          'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
          'Another process has been refreshing this grant for too long. Try again later.',
        )
      }
    }
  }

  /** Looks at what is stored, now that nobody else can refresh. */
  async #readAgain(): Promise<AccessToken | undefined> {
    await this.#rereadSession()
    return this.#usable()
  }

  async #refresh(): Promise<AccessToken> {
    const { refreshToken } = this.#tokens
    if (refreshToken === undefined) throw nothingToRefreshWith()
    let answer: RefreshAnswer
    try {
      answer = await this.#present(refreshToken)
    } catch (error) {
      if ((error as TokenError).code !== 'ERR_REAUTHENTICATION_REQUIRED') throw error
      if (await this.#findNewer(refreshToken)) return this.#usable() ?? this.#refresh()
      await this.#store(deadTokenSet(this.#tokens))
      throw error
    }
    const { clock, defaultLifetimeMs } = this.#context
    await this.#refuseForeignIdToken(answer)
    await this.#store(mergeTokens(this.#tokens, answer, this.#need, clock.now(), defaultLifetimeMs))
    return this.#tokens.accessTokens[0]!
  }

  #present(refreshToken: string): Promise<RefreshAnswer> {
    const { server, refreshTimeoutMs } = this.#context
    const { scope, resource } = this.#need
    const request = {
      signal: AbortSignal.timeout(refreshTimeoutMs),
      ...(scope !== undefined && { scope }),
      ...(resource !== undefined && { resource }),
    }
    return server.refresh(refreshToken, request)
  }

  /** After `invalid_grant`: whether there is a newer refresh token than the one that was refused. */
  async #findNewer(refused: string): Promise<boolean> {
    const { grants, known } = this.#context
    this.#adopt(await this.#askGrantStore(grants.read(this.#tokens.grantId), GRANT_STORE_TIMEOUT_MS))
    this.#tokens = newest(this.#tokens, known.get(this.#tokens.grantId))
    await this.#rereadSession()
    return this.#tokens.refreshToken !== undefined && this.#tokens.refreshToken !== refused
  }

  /**
   * The tokens of another user are not taken (OpenID Connect Core §12.2). The refresh token has been used, though,
   * and must not be presented again.
   */
  async #refuseForeignIdToken(answer: RefreshAnswer): Promise<void> {
    if (answer.idToken === undefined) return
    const { clientId, issuer } = this.#context
    try {
      checkRefreshedIdToken(this.#tokens.idToken, answer.idToken, clientId, issuer)
    } catch (error) {
      await this.#revokeLate(answer.refreshToken ?? answer.accessToken, answer.refreshToken !== undefined)
      await this.#store(withoutRefreshToken(this.#tokens))
      throw error
    }
  }

  /** Keeps a new token set: in this process at once, then in the grant store, then in the session. */
  async #store(tokens: TokenSet): Promise<void> {
    const { known, copies, emit } = this.#context
    const { grantId, revision } = tokens
    this.#tokens = tokens
    this.#secrets.push(...secretsOf(tokens))
    known.learn(tokens)
    if (known.ended(grantId)) return this.#tooLate()
    try {
      const record = { revision, tokens: copies.write(tokens) }
      const state = await this.#askGrantStore(this.#lease.commit(record), GRANT_STORE_TIMEOUT_MS)
      if (state.ended) known.end(grantId, state.ended)
    } catch (error) {
      emit({ type: 'grant_store_failed', grantId, error: error as TokenError })
    }
    if (!known.ended(grantId)) await storeInSession(this.#context, this.#session, tokens, this.#secrets)
    if (known.ended(grantId)) await this.#tooLate()
  }

  /** The grant has ended meanwhile: nothing brings it back, and what arrived late is of no use to anyone. */
  async #tooLate(): Promise<never> {
    const { refreshToken, accessTokens, grantId } = this.#tokens
    const late = refreshToken ?? accessTokens[0]?.token
    if (late !== undefined && this.#context.known.ended(grantId) === 'logged_out') {
      await this.#revokeLate(late, refreshToken !== undefined)
    }
    throw loggedOut()
  }

  async #revokeLate(token: string, isRefreshToken: boolean): Promise<void> {
    const { server, emit, refreshTimeoutMs } = this.#context
    const { grantId } = this.#tokens
    try {
      const hint = isRefreshToken ? 'refresh_token' : 'access_token'
      await server.revoke(token, hint, AbortSignal.timeout(refreshTimeoutMs))
      emit({ type: 'late_tokens_revoked', grantId })
    } catch (error) {
      emit({ type: 'revocation_failed', grantId, error: error as TokenError })
    }
  }

  async #rereadSession(): Promise<void> {
    const { copies, known } = this.#context
    let copy: unknown
    try {
      copy = await this.#session.reread()
    } catch (error) {
      throw sessionStoreFailed(error, this.#secrets)
    }
    if (known.ended(this.#tokens.grantId)) throw loggedOut()
    this.#take(copies.read(copy))
  }

  #adopt(state: GrantState): void {
    const { copies, known } = this.#context
    if (state.ended) known.end(this.#tokens.grantId, state.ended)
    if (state.ended || known.ended(this.#tokens.grantId)) throw loggedOut()
    this.#take(copies.read(state.record?.tokens))
  }

  #take(found: TokenSet | undefined): void {
    const tokens = newest(this.#tokens, found)
    if (tokens !== this.#tokens) this.#context.known.learn(tokens)
    this.#secrets.push(...secretsOf(tokens))
    this.#tokens = tokens
  }

  #usable(): AccessToken | undefined {
    const { known, leewayMs } = this.#context
    return usableToken(this.#tokens, this.#need, known.now(this.#tokens.grantId), leewayMs)
  }

  async #askGrantStore<T>(operation: Promise<T>, timeoutMs: number): Promise<T> {
    const late = () => new Error('The grant store did not answer in time.')
    try {
      return await within(timeoutMs, operation, late)
    } catch (error) {
      throw new TokenError(
        'ERR_GRANT_STORE',
        'The grant store cannot be reached. Check its connection, then try again.',
        { cause: error, secrets: this.#secrets },
      )
    }
  }
}

/**
 * Writes a token set into the session's storage if it is newer than what is there; once more if that fails. Resolves
 * with `false` on a failure for good, which is told and does no harm: the next request finds the tokens in this process
 * or in the grant store.
 */
export async function storeInSession(
  context: Pick<RefreshContext, 'known' | 'copies' | 'emit'>,
  session: SessionAdapter,
  tokens: TokenSet,
  secrets: readonly string[] = secretsOf(tokens),
): Promise<boolean> {
  const { known, copies, emit } = context
  const { grantId, revision } = tokens
  const replaces = (copy: unknown): boolean => {
    const stored = copies.read(copy)
    return !known.ended(grantId) && stored?.grantId === grantId && stored.revision < revision
  }
  const copy = copies.write(tokens)
  const replace = () => session.replace(copy, replaces)
  try {
    await replace().catch(replace)
    return true
  } catch (error) {
    emit({ type: 'session_write_failed', grantId, error: sessionStoreFailed(error, secrets) })
    return false
  }
}

export function sessionStoreFailed(cause: unknown, secrets: readonly string[]): TokenError {
  if (cause instanceof TokenError) return cause
  return new TokenError('ERR_SESSION_STORE', 'The session store failed. Check it, then try again.', {
    cause,
    secrets,
  })
}

export function nothingToRefreshWith(): TokenError {
  return new TokenError(
    'ERR_REAUTHENTICATION_REQUIRED',
    'The tokens of this session have expired and there is no refresh token that is still good. Send the user to the login.',
  )
}

export function loggedOut(): TokenError {
  return new TokenError(
    'ERR_NO_TOKENS',
    'This session holds no tokens. Send the user to the login; it must end with req.tokens.set() or acquire().',
  )
}

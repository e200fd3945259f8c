import type { Clock } from './clock.js'
import { within } from './deadline.js'
import { TokenError } from './errors.js'
import type { TokenEventListener } from './events.js'
import type { GrantRecord, GrantState, GrantStore } from './grants/grant-store.js'
import type { KnownGrants } from './grants/known-grants.js'
import { Lease } from './grants/lease.js'
import type { AuthorizationServer, RefreshAnswer } from './oauth/authorization-server.js'
import { checkRefreshedIdToken, refusedAtRefresh } from './oauth/id-token.js'
import type { IdTokenSignature } from './oauth/issuer-keys.js'
import { refreshTokenBeside } from './oauth/token-response.js'
import { GRANT_STORE_TIMEOUT_MS, type SessionWrites, sessionStoreFailed } from './session-writes.js'
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
  withRefreshToken,
} from './token-set.js'

/** What a refresh works with. */
export interface RefreshContext {
  readonly server: AuthorizationServer
  readonly clientId: string
  readonly issuer?: string
  readonly grants: GrantStore
  readonly known: KnownGrants
  readonly copies: SessionCopies
  readonly writes: SessionWrites
  readonly clock: Clock
  readonly emit: TokenEventListener
  /** Whether the grant store keeps what the session cannot, for other processes as well. */
  readonly keepsForOthers?: boolean
  /** Whether a refresh goes on without the grant store when that fails. */
  readonly onGrantStoreError?: 'fail' | 'local'
  readonly leewayMs: number
  readonly refreshTimeoutMs: number
  readonly defaultLifetimeMs: number
}

export interface RefreshOutcome {
  readonly accessToken: AccessToken
  /** Whether the token came from the authorization server just now, rather than from whoever was faster. */
  readonly fresh: boolean
  /** Neither the grant store nor the session store has taken the tokens: this process alone has them. */
  readonly isUnsaved?: boolean
}

const UNREADABLE =
  'Another process has stored newer tokens that this one cannot read. Give all processes the same encryptionKeys, clientId ' +
  'and issuer; a new key is first added at the end of the list everywhere, then moved to its front.'

/** How long a commit holds up the write to the session. The lease holds for longer. */
const COMMIT_PATIENCE_MS = 1_000
/** For how long tokens wait for the keys that their ID token is checked with. The next refresh has them. */
const KEYS_PATIENCE_MS = 2_000

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
  #isUnsaved = false
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
      do {
        const adopted = (await this.#takeLease()) ?? (await this.#readAgain())
        if (adopted) return { accessToken: adopted, fresh: false }
      } while (await this.#hasLostLease())
      const accessToken = await this.#refresh()
      const durationMs = this.#context.clock.monotonic() - startedAt
      const { grantId, revision } = this.#tokens
      this.#context.emit({ type: 'refreshed', grantId, revision, durationMs })
      return { accessToken, fresh: true, isUnsaved: this.#isUnsaved }
    } finally {
      // Nobody waits for it: where the store cannot be reached the lease ends by itself.
      void this.#lease.release().catch(() => {})
    }
  }

  /**
   * Waits for the lease. Resolves with a token instead when another process committed one that serves the need. With
   * `onGrantStoreError: 'local'` it goes without where the grant store fails.
   */
  async #takeLease(): Promise<AccessToken | undefined> {
    const { clock, refreshTimeoutMs } = this.#context
    const deadline = clock.monotonic() + 2 * refreshTimeoutMs
    for (;;) {
      const waitMs = Math.max(0, deadline - clock.monotonic())
      const asked = this.#askGrantStore(
        this.#lease.take(this.#tokens.revision, waitMs),
        waitMs + GRANT_STORE_TIMEOUT_MS,
      )
      const answer = await this.#orWithout(asked)
      if (!answer) return undefined
      this.#adopt(answer)
      this.#refuseUnreadable(answer)
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

  /** Newer tokens that cannot be read are not the same as none: the refresh token at hand has been spent. */
  #refuseUnreadable({ record }: GrantState): void {
    if (!record || record.revision <= this.#tokens.revision) return
    throw new TokenError('ERR_GRANT_STORE', UNREADABLE)
  }

  /** Whether another process may have the lease by now. Asked right before the refresh token is spent. */
  async #hasLostLease(): Promise<boolean> {
    return this.#lease.isDoubtful && !(await this.#askGrantStore(this.#lease.renew(), GRANT_STORE_TIMEOUT_MS))
  }

  /** Looks at what is stored, now that nobody else can refresh. */
  async #readAgain(): Promise<AccessToken | undefined> {
    await this.#rereadSession()
    return this.#usable()
  }

  async #refresh(): Promise<AccessToken> {
    const { refreshToken } = this.#tokens
    if (refreshToken === undefined) throw nothingToRefreshWith()
    // What comes could not be sent back in the session cookie any more, and would be lost for other processes.
    if (!this.#context.keepsForOthers && !this.#context.copies.isReference) this.#session.checkStorable()
    let answer: RefreshAnswer
    try {
      answer = await this.#present(refreshToken)
    } catch (error) {
      // Of no use but for its refresh token: a server that has sent a new one takes the one before no more.
      const rotated = refreshTokenBeside(error as TokenError)
      if (rotated !== undefined && rotated !== refreshToken) {
        await this.#store(withRefreshToken(this.#tokens, rotated))
      }
      if ((error as TokenError).code !== 'ERR_REAUTHENTICATION_REQUIRED') throw error
      if (await this.#findNewer(refreshToken)) return this.#usable() ?? this.#refresh()
      await this.#store(deadTokenSet(this.#tokens))
      throw error
    }
    const { clock, defaultLifetimeMs } = this.#context
    const checked = await this.#withCheckedIdToken(answer)
    await this.#store(mergeTokens(this.#tokens, checked, this.#need, clock.now(), defaultLifetimeMs))
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
    const { grantId } = this.#tokens
    const state = await this.#orWithout(this.#askGrantStore(grants.read(grantId), GRANT_STORE_TIMEOUT_MS))
    if (state) this.#adopt(state)
    this.#tokens = newest(this.#tokens, known.get(this.#tokens.grantId))
    await this.#rereadSession()
    return this.#tokens.refreshToken !== undefined && this.#tokens.refreshToken !== refused
  }

  /**
   * The tokens of another user are not taken (OpenID Connect Core §12.2), nor those beside a forged ID token. The refresh
   * token has been used, though, and must not be presented again.
   *
   * An ID token whose signature nobody can check here and now, since the issuer's keys cannot be had or are for other
   * algorithms, is left out, and the one before it stays. All else that the answer brought is kept: the keys of the
   * issuer vouch for ID tokens alone.
   */
  async #withCheckedIdToken(answer: RefreshAnswer): Promise<RefreshAnswer> {
    const { idToken, ...others } = answer
    if (idToken === undefined) return answer
    let signature: IdTokenSignature
    try {
      checkRefreshedIdToken(this.#tokens.idToken, idToken, this.#context)
      signature = await this.#signatureOf(idToken)
      if (signature.verdict === 'bad') throw refusedAtRefresh(signature.why)
    } catch (error) {
      await this.#revokeLate(answer.refreshToken ?? answer.accessToken, answer.refreshToken !== undefined)
      await this.#store(withoutRefreshToken(this.#tokens))
      throw error
    }
    if (signature.verdict === 'good') return answer
    const { emit } = this.#context
    emit({ type: 'id_token_left_out', grantId: this.#tokens.grantId, error: signature.error })
    return others
  }

  /** New tokens are in nobody's keeping yet: they do not wait for long until the issuer's keys have been fetched. */
  async #signatureOf(idToken: string): Promise<IdTokenSignature> {
    const signature = this.#context.server.signatureOf(idToken)
    return within(KEYS_PATIENCE_MS, signature, keysTooSlow).catch((error: TokenError) => ({
      verdict: 'unknown',
      error,
    }))
  }

  /** Keeps a new token set: in this process at once, then in the grant store, then in the session. */
  async #store(tokens: TokenSet): Promise<void> {
    const { known, writes } = this.#context
    const { grantId } = tokens
    this.#tokens = tokens
    this.#secrets.push(...secretsOf(tokens))
    known.learn(tokens)
    if (known.ended(grantId)) return this.#tooLate()
    const committed = this.#commit()
    // Without an answer the lease ends before long, and by then the session must have what others will look for there.
    const aliveAt = await within(COMMIT_PATIENCE_MS, committed, noAnswer).catch(() => undefined)
    const isStored =
      !known.ended(grantId) && (await writes.store(this.#session, this.#tokens, aliveAt, this.#secrets))
    this.#isUnsaved = !isStored && (await committed) === undefined
    // Without an answer to the commit nobody has said whether the grant has ended meanwhile.
    if ((await committed) === undefined && !known.ended(grantId)) await writes.ask(grantId, true)
    if (known.ended(grantId)) await this.#tooLate()
  }

  /** Commits to the grant store. Resolves with when it was asked, if it answered that the grant is alive. Never rejects. */
  async #commit(): Promise<number | undefined> {
    const { clock, copies, emit, known } = this.#context
    const { grantId, revision } = this.#tokens
    const askedAt = clock.monotonic()
    try {
      const record = { revision, tokens: copies.record(this.#tokens) }
      const state = await this.#askGrantStore(this.#lease.commit(record), GRANT_STORE_TIMEOUT_MS)
      if (state.ended) known.end(grantId, state.ended)
      else if (this.#isBehind(state.record, record)) return await this.#commit()
      else return askedAt
    } catch (error) {
      emit({ type: 'grant_store_failed', grantId, error: error as TokenError })
    }
    return undefined
  }

  /**
   * Where the lease was lost another process may have committed what it got for the same refresh token, or for the next. What
   * came last is the newest, so it is given a revision of its own.
   */
  #isBehind(held: GrantRecord | undefined, ours: GrantRecord): boolean {
    if (!held || held.revision < ours.revision || held.tokens === ours.tokens) return false
    if (this.#tokens.refreshToken === undefined) return false
    this.#tokens = { ...this.#tokens, revision: held.revision + 1 }
    this.#context.known.learn(this.#tokens)
    return true
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
    const found = copies.read(copy)
    if (!found && typeof copy === 'string') throw new TokenError('ERR_SESSION_STORE', UNREADABLE)
    this.#take(found)
  }

  #adopt(state: GrantState): void {
    const { copies, known } = this.#context
    if (state.ended) known.end(this.#tokens.grantId, state.ended)
    if (state.ended || known.ended(this.#tokens.grantId)) throw loggedOut()
    this.#take(copies.readRecord(this.#tokens.grantId, state.record?.tokens))
  }

  #take(found: TokenSet | undefined): void {
    const tokens = newest(this.#tokens, found)
    if (tokens !== this.#tokens) this.#context.known.learn(tokens, true)
    this.#secrets.push(...secretsOf(tokens))
    this.#tokens = tokens
  }

  #usable(): AccessToken | undefined {
    const { known, leewayMs } = this.#context
    return usableToken(this.#tokens, this.#need, known.now(this.#tokens.grantId), leewayMs)
  }

  /** The grant store's answer; `undefined` where it failed and this process goes on by itself. */
  async #orWithout<T>(answer: Promise<T>): Promise<T | undefined> {
    const { emit, onGrantStoreError } = this.#context
    try {
      return await answer
    } catch (error) {
      if (onGrantStoreError !== 'local') throw error
      emit({ type: 'grant_store_failed', grantId: this.#tokens.grantId, error: error as TokenError })
      return undefined
    }
  }

  async #askGrantStore<T>(operation: Promise<T>, timeoutMs: number): Promise<T> {
    try {
      return await within(timeoutMs, operation, noAnswer)
    } catch (error) {
      throw new TokenError(
        'ERR_GRANT_STORE',
        'The grant store cannot be reached. Check its connection, then try again.',
        { cause: error, secrets: this.#secrets },
      )
    }
  }
}

const keysTooSlow = () =>
  new TokenError(
    'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    "The issuer's keys did not arrive in time. The next refresh will have them.",
  )

const noAnswer = () => new Error('The grant store did not answer in time.')

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

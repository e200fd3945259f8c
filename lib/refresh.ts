import { within } from './deadline.js'
import { StepUpError, TokenError } from './errors.js'
import { LeasedTokens, type LeasedTokensContext } from './leased-tokens.js'
import type { AuthorizationServer, RefreshAnswer } from './oauth/authorization-server.js'
import { checkRefreshedIdToken, fromTheFuture, refusedAtRefresh } from './oauth/id-token.js'
import type { IdTokenSignature } from './oauth/issuer-keys.js'
import { subjectOf } from './oauth/subject.js'
import { refreshTokenBeside } from './oauth/token-response.js'
import { ownProperties } from './own-properties.js'
import { loggedOut, loginRequired, nothingToRefreshWith, refusedForNeed } from './refusals.js'
import { revokeTokens } from './revocation.js'
import type { SessionAdapter } from './sessions/session-adapter.js'
import type { Shares } from './shares.js'
import { namedIn } from './token-need.js'
import {
  type AccessToken,
  deadTokenSet,
  mergeTokens,
  needAtRefresh,
  secretsOf,
  serves,
  type TokenNeed,
  type TokenSet,
  withoutRefreshToken,
  withRefreshToken,
} from './token-set.js'

/** What a refresh works with. */
export interface RefreshContext extends LeasedTokensContext {
  readonly server: AuthorizationServer
  readonly shares: Shares
  /** Names the client and its authorization server. */
  readonly audience: string
  readonly clientId: string
  readonly issuer?: string
  readonly defaultLifetimeMs: number
}

/** What became of the tokens of a grant that was logged out during its refresh. */
export type Revocation = 'revoked' | TokenError

export interface RefreshOutcome {
  readonly accessToken: AccessToken
  /** Whether the token came from the authorization server just now, rather than from whoever was faster. */
  readonly fresh: boolean
}

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
  readonly #tokens: LeasedTokens
  readonly #startedAt: number
  #isPresented = false
  #revocation: Revocation | undefined

  constructor(context: RefreshContext, session: SessionAdapter, tokens: TokenSet, need: TokenNeed) {
    this.#context = context
    this.#session = session
    this.#need = need
    this.#tokens = new LeasedTokens(context, session, tokens, need)
    this.#startedAt = context.clock.monotonic()
  }

  async run(): Promise<RefreshOutcome> {
    try {
      let accessToken: AccessToken | undefined
      do {
        const adopted = await this.#underLease()
        if (adopted) return { accessToken: adopted, fresh: false }
        accessToken = await this.#refresh()
      } while (!accessToken)
      return { accessToken, fresh: true }
    } catch (error) {
      await this.#revokeIfLoggedOut()
      throw error
    } finally {
      this.#tokens.release()
    }
  }

  /** Whether this refresh has revoked the tokens that a logout found in its hands; `undefined` where it had none. */
  get revocation(): Revocation | undefined {
    return this.#revocation
  }

  /** Resolves under the lease; with a token instead if another process was faster. */
  async #underLease(): Promise<AccessToken | undefined> {
    while (!(await this.#tokens.hasLease())) {
      const adopted = (await this.#tokens.takeLease()) ?? (await this.#tokens.readAgain())
      if (adopted) return adopted
    }
    return undefined
  }

  /** Resolves without a token when the one presented was not the newest: then the newest is to be presented. */
  async #refresh(): Promise<AccessToken | undefined> {
    const { known } = this.#context
    const { grantId, refreshToken } = this.#tokens.newest
    if (refreshToken === undefined) {
      throw nothingToRefreshWith(this.#tokens.newest, this.#need, known.now(grantId))
    }
    // Where newer tokens might have been could not be asked then; by now it has been, under the lease.
    const refusal = known.refusalOf(grantId, refreshToken)
    if (refusal) return this.#die(refusal)
    // What comes could not be sent back in the session cookie any more, and would be lost for other processes.
    if (!this.#context.keepsForOthers && !this.#context.copies.isReference) this.#session.checkStorable()
    const asked = needAtRefresh(this.#tokens.newest, this.#need)
    let answer: RefreshAnswer
    try {
      answer = await this.#present(refreshToken, asked)
    } catch (error) {
      const isOfNeed = namedIn(asked) !== undefined
      if (error instanceof StepUpError && !isOfNeed) throw loginRequired(error)
      if ((error as TokenError).code !== 'ERR_REAUTHENTICATION_REQUIRED') throw error
      if (!isOfNeed) known.refuse(grantId, refreshToken, error as TokenError)
      if (await this.#tokens.findNewer(refreshToken)) return this.#tokens.usable
      return isOfNeed
        ? this.#refuseNeed(refreshToken, asked, error as TokenError)
        : this.#die(error as TokenError)
    }
    const accessToken = await this.#keep(answer, asked)
    // A server may have narrowed the scope of the login: then the need is asked for by its name.
    return serves(accessToken, this.#need) ? accessToken : undefined
  }

  /** Stores what a refresh brought. Resolves with its access token. */
  async #keep(answer: RefreshAnswer, asked: TokenNeed): Promise<AccessToken> {
    const { clock, defaultLifetimeMs, emit } = this.#context
    const checked = await this.#withCheckedIdToken(answer)
    await this.#store(mergeTokens(this.#tokens.newest, checked, asked, clock.now(), defaultLifetimeMs))
    const durationMs = clock.monotonic() - this.#startedAt
    const { grantId, revision } = this.#tokens.newest
    emit({ type: 'refreshed', grantId, revision, durationMs })
    return this.#tokens.newest.accessTokens[0]!
  }

  /**
   * The authorization server said `invalid_grant` to a refresh that named a need. A refresh that names none tells, under the
   * same lease, whether that is about the need or about the grant.
   */
  async #refuseNeed(refreshToken: string, asked: TokenNeed, refusal: TokenError): Promise<never> {
    const { known } = this.#context
    const { grantId } = this.#tokens.newest
    let answer: RefreshAnswer
    try {
      answer = await this.#present(refreshToken, {})
    } catch (error) {
      if ((error as TokenError).code !== 'ERR_REAUTHENTICATION_REQUIRED') throw error
      known.refuse(grantId, refreshToken, error as TokenError)
      return this.#die(error as TokenError)
    }
    await this.#keep(answer, {})
    throw refusedForNeed(asked, refusal)
  }

  /** The authorization server takes the newest refresh token no more. */
  async #die(refusal: TokenError): Promise<never> {
    await this.#store(deadTokenSet(this.#tokens.newest))
    throw refusal
  }

  /** Presents the refresh token. A new one beside a response that is of no other use is kept: the server has spent this one. */
  async #present(refreshToken: string, asked: TokenNeed): Promise<RefreshAnswer> {
    const { known } = this.#context
    const { grantId } = this.#tokens.newest
    known.present(grantId, refreshToken)
    try {
      const answer = await this.#ask(refreshToken, asked)
      known.keepUnspent(grantId)
      return answer
    } catch (error) {
      if (isUnspentAfter(error as TokenError)) known.keepUnspent(grantId)
      const rotated = refreshTokenBeside(error as TokenError)
      if (rotated !== undefined && rotated !== refreshToken) {
        await this.#store(withRefreshToken(this.#tokens.newest, rotated))
      }
      throw error
    }
  }

  #ask(refreshToken: string, asked: TokenNeed): Promise<RefreshAnswer> {
    const { server, refreshTimeoutMs } = this.#context
    const { scope, resource, audience } = asked
    const request = {
      secrets: secretsOf(this.#tokens.newest),
      signal: AbortSignal.timeout(refreshTimeoutMs),
      ...(scope !== undefined && { scope }),
      ...(resource !== undefined && { resource }),
      ...(audience !== undefined && { audience }),
    }
    this.#isPresented = true
    return server.refresh(refreshToken, request)
  }

  /**
   * The tokens of another user are not taken (OpenID Connect Core §12.2), nor those beside a forged ID token. The refresh
   * token has been used, though, and must not be presented again.
   *
   * An ID token that cannot be vouched for here and now, and contradicts nothing, is left out, and the one before it stays:
   * the issuer's keys cannot be had or are for other algorithms, it is not signed, or it is from the future. All else that
   * the response brought is kept: the keys of the issuer vouch for ID tokens alone.
   */
  async #withCheckedIdToken(answer: RefreshAnswer): Promise<RefreshAnswer> {
    const { idToken, ...others } = answer
    if (idToken === undefined) return answer
    let signature: IdTokenSignature
    try {
      checkRefreshedIdToken(this.#tokens.newest, idToken, this.#context)
      signature = await this.#signatureOf(idToken)
      if (signature.verdict === 'bad') throw refusedAtRefresh(signature.why)
    } catch (error) {
      await this.#revoke(foreignTokens(this.#tokens.newest, answer))
      await this.#store(withoutRefreshToken(this.#tokens.newest))
      throw error
    }
    const { clock, emit } = this.#context
    const { grantId, idToken: before, subject } = this.#tokens.newest
    const error = signature.verdict === 'unknown' ? signature.error : fromTheFuture(idToken, clock.now())
    if (error) {
      emit({ type: 'id_token_left_out', grantId, error })
      return others
    }
    const known = subjectOf(idToken) === undefined ? (subjectOf(before) ?? subject) : undefined
    return ownProperties({ ...answer, ...(known !== undefined && { subject: known }) })
  }

  /** New tokens are in nobody's keeping yet: they do not wait for long until the issuer's keys have been fetched. */
  async #signatureOf(idToken: string): Promise<IdTokenSignature> {
    const signature = this.#context.server.signatureOf(idToken)
    return within(KEYS_PATIENCE_MS, signature, keysTooSlow).catch((error: TokenError) => ({
      verdict: 'unknown',
      error,
    }))
  }

  async #store(tokens: TokenSet): Promise<void> {
    await this.#tokens.keep(tokens)
    if (this.#context.known.ended(tokens.grantId)) await this.#tooLate()
  }

  /** The grant has ended meanwhile: nothing brings it back, and what arrived late is of no use to anyone. */
  async #tooLate(): Promise<never> {
    const { grantId } = this.#tokens.newest
    if (this.#context.known.ended(grantId) === 'logged_out') await this.#revoke(this.#tokens.newest)
    throw loggedOut()
  }

  /** A refresh that fails under its lease may be the last to have the refresh token: a logout leaves it to the lease holder. */
  async #revokeIfLoggedOut(): Promise<void> {
    const { keepsForOthers, known, writes } = this.#context
    const { newest, isHolder } = this.#tokens
    if (!isHolder || this.#revocation) return
    if (this.#isPresented && keepsForOthers) await writes.ask(newest)
    if (known.ended(newest.grantId) === 'logged_out') await this.#revoke(newest)
  }

  async #revoke(tokens: TokenSet): Promise<void> {
    const { emit } = this.#context
    const { grantId, refreshToken, accessTokens } = tokens
    this.#revocation = 'revoked'
    if (refreshToken === undefined && accessTokens.length === 0) return
    try {
      await revokeTokens(this.#context, tokens)
      emit({ type: 'late_tokens_revoked', grantId })
    } catch (error) {
      this.#revocation = error as TokenError
      emit({ type: 'revocation_failed', grantId, error: error as TokenError })
    }
  }
}

/** The tokens of a response that is not taken, to be revoked. */
function foreignTokens({ grantId, revision }: TokenSet, answer: RefreshAnswer): TokenSet {
  return mergeTokens({ grantId, revision, accessTokens: [] }, answer, {}, 0, 0)
}

/** What a connection fails with before anything has been sent over it. */
const NOT_SENT = ['ECONNREFUSED', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOTFOUND']

/** Whether a failed refresh cannot have spent the refresh token: the server refused the request, or did not get it. */
function isUnspentAfter({ cause, code, error, responseStatus }: TokenError): boolean {
  if (code === 'ERR_INVALID_TOKEN_RESPONSE') return false
  if (code !== 'ERR_TOKEN_ENDPOINT_UNAVAILABLE') return true
  if (error !== undefined || responseStatus === 429) return true
  return NOT_SENT.includes(String((cause as { code?: unknown } | undefined)?.code))
}

const keysTooSlow = () =>
  new TokenError(
    'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    "The issuer's keys did not arrive in time. The next refresh will have them.",
  )

import type { Background } from './background.js'
import { grantIdOf, identityOf, partsOf, proofOf, randomProof, randomShare } from './grant-proof.js'
import type { AcquireParameters, RefreshAnswer } from './oauth/authorization-server.js'
import { checkFirstIdToken, refusedAtLogin } from './oauth/id-token.js'
import { differentSubjects } from './oauth/subject.js'
import { ownProperties, ownValue } from './own-properties.js'
import type { RefreshContext } from './refresh.js'
import { crossingIsOver, type Ending, sessionStoreFailed } from './session-writes.js'
import { oneAfterAnother, type Queue } from './sessions/one-after-another.js'
import type { SessionAdapter } from './sessions/session-adapter.js'
import type { Joined } from './shares.js'
import { firstTokenSet, secretsOf, type TokenAnswer, type TokenSet } from './token-set.js'

/** Starts grants. */
export class Login {
  readonly #context: RefreshContext
  readonly #background: Background
  /** Of two logins in one request the later one comes after the other. */
  readonly #logins = new WeakMap<SessionAdapter, Queue>()

  constructor(context: RefreshContext, background: Background) {
    this.#context = context
    this.#background = background
  }

  /** Starts a grant: the tokens of a login, stored in the session when this resolves. What the session held is given up. */
  with(session: SessionAdapter, answer: TokenAnswer): Promise<void> {
    const inTurn = this.#logins.get(session) ?? oneAfterAnother()
    this.#logins.set(session, inTurn)
    return inTurn(() => this.#with(session, answer))
  }

  async #with(session: SessionAdapter, answer: TokenAnswer): Promise<void> {
    const { copies, restoration } = this.#context
    // A session that was regenerated for the login does not hold the earlier tokens any more.
    const previous = copies.read(session.read() ?? session.seen)
    const { tokens, failure } = await this.#begin(session, answer, previous)
    // Nobody else has the tokens then.
    if (failure && copies.isReference) throw failure
    const displaced = await session.save(copies.write(tokens)).catch((error) => {
      throw sessionStoreFailed(error, [...secretsOf(tokens), ...(previous ? secretsOf(previous) : [])])
    })
    restoration.noteTokens(tokens, session, { record: failure !== undefined, copy: false })
    const earlier = new Set([...displaced, ...(previous ? [identityOf(previous)] : [])])
    // A save of the app may have been faster with it.
    earlier.delete(identityOf(tokens))
    const ends = [...earlier]
    const endings = await Promise.all(
      ends.map((identity) => this.#giveUp(session, identity, previous, tokens)),
    )
    const isCrossed = endings.some(({ crossed }) => crossed)
    if (isCrossed) await this.#lookAgain(session, tokens, ends)
    // A save that has crossed with this login takes the old tokens out when it looks again, and maybe the new ones with them.
    if (isCrossed || (ends.length > 0 && this.#context.keepsForOthers)) {
      const later = crossingIsOver().then(() => this.#lookAgain(session, tokens, ends))
      this.#background.start(`login ${tokens.grantId}`, later)
    }
  }

  /**
   * The grant of a login: the one that another session has begun with the same refresh token, else a new one. A session that
   * is in that grant already keeps its share.
   */
  async #begin(
    session: SessionAdapter,
    answer: TokenAnswer,
    previous: TokenSet | undefined,
  ): Promise<Joined> {
    const { audience, clock, defaultLifetimeMs, known, shares } = this.#context
    const { refreshToken } = answer
    let isShared = refreshToken !== undefined
    for (let generation = 0; ; generation++) {
      const proof = isShared ? proofOf(audience, refreshToken!, generation) : randomProof()
      const grantId = grantIdOf(proof)
      if (known.ended(grantId)) continue
      const isIn = previous?.grantId === grantId && !known.endOf(previous)
      const share = (isIn && previous.share) || randomShare()
      const first = firstTokenSet(grantId, answer, clock.now(), defaultLifetimeMs)
      const tokens = ownProperties({ ...first, proof, share, shares: [share] })
      const joined = await shares.join(session, tokens)
      if (joined === 'unreadable') isShared = false
      else if (joined) return joined
    }
  }

  /** A refresh of what a login has replaced may have been written to the session meanwhile, or taken out again with it. */
  async #lookAgain(session: SessionAdapter, tokens: TokenSet, replaced: readonly string[]): Promise<void> {
    const { copies, known, writes } = this.#context
    await crossingIsOver()
    await writes.ask(tokens)
    // Nobody else takes anything out of a session that goes with the answer: the app itself has done away with it.
    const wasTakenOut = (stored: unknown) => stored === undefined && !session.isInAnswer
    const isReplaced = (stored: TokenSet | undefined) => stored && replaced.includes(identityOf(stored))
    const isLost = (stored: unknown) =>
      !known.endOf(tokens) && (wasTakenOut(stored) || isReplaced(copies.read(stored)))
    await session.replace(copies.write(tokens), (stored) => isLost(stored) === true)
  }

  #giveUp(
    session: SessionAdapter,
    identity: string,
    previous: TokenSet | undefined,
    tokens: TokenSet,
  ): Promise<Ending> {
    const { known, shares } = this.#context
    const seen =
      previous && identityOf(previous) === identity ? previous : known.get(partsOf(identity).grantId)
    const why = differentSubjects(seen?.idToken, tokens.idToken) ? 'logged_out' : 'replaced'
    return shares.leave(session, identity, why, seen)
  }

  /** Starts a grant with the tokens that the token endpoint gives for a code, a password or an assertion. */
  async acquire(session: SessionAdapter, parameters: AcquireParameters): Promise<void> {
    const { refreshTimeoutMs, server } = this.#context
    // A session that is missing, or can take nothing any more, is found out before the code is spent.
    session.read()
    session.checkStorable()
    const answer = await server.acquire(parameters, AbortSignal.timeout(refreshTimeoutMs))
    const nonce = ownValue(parameters, 'nonce') as string | undefined
    if (answer.idToken !== undefined || nonce !== undefined) await this.#checkFirstIdToken(answer, nonce)
    await this.with(session, answer)
  }

  /** What came beside an ID token that is refused is revoked: nobody will have it. */
  async #checkFirstIdToken(
    { accessToken, idToken, refreshToken }: RefreshAnswer,
    nonce: string | undefined,
  ): Promise<void> {
    const { clock, refreshTimeoutMs, server } = this.#context
    try {
      if (idToken === undefined)
        throw refusedAtLogin('is missing, and with it the nonce that was to be checked')
      checkFirstIdToken(
        idToken,
        ownProperties({ ...this.#context, ...(nonce !== undefined && { nonce }) }),
        clock.now(),
      )
      const signature = await server.signatureOf(idToken)
      if (signature.verdict === 'bad') throw refusedAtLogin(signature.why)
      if (signature.verdict === 'unknown') throw signature.error
    } catch (error) {
      const hint = refreshToken === undefined ? 'access_token' : 'refresh_token'
      const signal = AbortSignal.timeout(refreshTimeoutMs)
      // Without a revocation endpoint they end by themselves.
      await server.revoke(refreshToken ?? accessToken, hint, signal).catch(() => {})
      throw error
    }
  }
}

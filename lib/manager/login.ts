import type { BackgroundTasks } from '../concurrency/background-tasks.js'
import { type SerialQueue, serialQueue } from '../concurrency/serial-queue.js'
import type { AcquireParameters, RefreshResponse } from '../oauth/authorization-server.js'
import { checkFirstIdToken, differentSubjects, issuedAt, refusedAtLogin } from '../oauth/id-token/id-token.js'
import { ownProperties, ownValue } from '../options/own-properties.js'
import type { SessionAdapter, SessionHome } from '../sessions/session-adapter.js'
import { raceWindowOver } from '../sessions/store/write-race.js'
import type { DpopKey } from '../tokens/dpop-key.js'
import {
  grantIdOf,
  identityOf,
  isShareOf,
  newShare,
  partsOf,
  proofOf,
  randomProof,
  shareKeyOf,
} from '../tokens/grant-proof.js'
import { firstTokenSet, type TokenResponse } from '../tokens/token-response.js'
import { secretsOf, type TokenSet } from '../tokens/token-set.js'
import type { Ending } from './end-grant.js'
import type { Joined, Shares } from './grant-shares.js'
import type { LeasedGrantContext } from './leased-grant.js'
import { keyOfNextLogin } from './login-keys.js'
import { sessionStoreError } from './session-writer.js'

export interface LoginContext extends LeasedGrantContext {
  readonly shares: Shares
}

/** Starts a grant for each login, stores its tokens in the session, and ends the grant that the session held before. */
export class Login {
  readonly #context: LoginContext
  readonly #background: BackgroundTasks
  /** Two logins in one request run one after the other. */
  readonly #logins = new WeakMap<SessionAdapter, SerialQueue>()

  constructor(context: LoginContext, background: BackgroundTasks) {
    this.#context = context
    this.#background = background
  }

  /**
   * Starts a grant with the tokens of a login. Resolves when the session holds them. The grant that the session held before ends.
   *
   * @param fields the fields that a session keeps when it gets another id; `undefined` if the session keeps its id
   */
  set(
    session: SessionAdapter,
    response: TokenResponse,
    fields: readonly string[] | undefined,
    startedAt = this.#context.clock.monotonic(),
  ): Promise<void> {
    const enqueue = this.#logins.get(session) ?? serialQueue()
    this.#logins.set(session, enqueue)
    return enqueue(() => this.#start(session, response, fields, startedAt))
  }

  async #start(
    session: SessionAdapter,
    response: TokenResponse,
    fields: readonly string[] | undefined,
    startedAt: number,
  ): Promise<void> {
    const { clock, codec, emit, restoration } = this.#context
    // A session that was regenerated for the login does not hold the earlier tokens any more.
    const previous = codec.read(session.read() ?? session.lastKnown)
    const { tokens, failure } = ownProperties(await this.#join(session, response, previous))
    // The session would hold a reference only, and the grant store does not have the tokens.
    if (failure && codec.writesReferences) throw failure
    const saved = async () => {
      if (fields) await session.regenerate?.(fields)
      return session.save(codec.write(tokens))
    }
    const displaced = await saved().catch((error) => {
      throw sessionStoreError(error, [...secretsOf(tokens), ...(previous ? secretsOf(previous) : [])])
    })
    restoration.noteTokens(tokens, session, { record: failure !== undefined, copy: false })
    emit({ type: 'logged_in', grantId: tokens.grantId, durationMs: clock.monotonic() - startedAt })
    const identities = new Set([...displaced, ...(previous ? [identityOf(previous)] : [])])
    // A save by the app may have stored the new tokens first.
    identities.delete(identityOf(tokens))
    const replaced = [...identities]
    const endings = await Promise.all(
      replaced.map((identity) => this.#endReplaced(session, identity, previous, tokens)),
    )
    const mayRace = endings.some((ending) => ending.mayRace)
    // A save in another process that races with this login may remove the new tokens, also when it is repaired.
    if (mayRace || (this.#context.shared.isShared && !session.isCookieBased)) {
      // The request may go on with another session.
      const home = session.home ?? session
      const restored = this.#restoreIfLost(home, tokens, replaced)
      if (mayRace) await restored
      const later = restored.then(raceWindowOver).then(() => this.#restoreIfLost(home, tokens, replaced))
      this.#background.run(`login ${tokens.grantId}`, later)
    }
  }

  /**
   * Puts a session into the grant that another session has started with the same refresh token, or else into a new grant. A
   * session that is in that grant already keeps its share.
   */
  async #join(
    session: SessionAdapter,
    response: TokenResponse,
    previous: TokenSet | undefined,
  ): Promise<Joined> {
    const { audience, clock, defaultLifetimeMs, registry, shares } = this.#context
    const { refreshToken } = response
    let isShared = refreshToken !== undefined
    for (let generation = 0; ; generation++) {
      const proof = isShared ? proofOf(audience, refreshToken!, generation) : randomProof()
      const grantId = grantIdOf(proof)
      if (registry.ended(grantId)) continue
      const isIn = previous?.grantId === grantId && !registry.endOf(previous)
      const shareKey = isShared ? shareKeyOf(audience, refreshToken!, generation) : randomProof()
      const share =
        isIn && previous.share && isShareOf(shareKey, previous.share) ? previous.share : newShare(shareKey)
      const first = firstTokenSet(grantId, response, clock.now(), defaultLifetimeMs)
      const loginIssuedAt = issuedAt(response.idToken)
      const tokens = ownProperties({
        ...first,
        ...(loginIssuedAt !== undefined && { loginIssuedAt }),
        ...{ proof, share, shares: [share], shareKey },
      })
      const joined = await shares.join(session, tokens)
      if (joined === 'unreadable') isShared = false
      else if (joined) return joined
    }
  }

  /**
   * Writes the tokens of a login to the session again if a write race has removed them, or has brought back the tokens that they
   * replaced.
   */
  async #restoreIfLost(
    home: SessionHome & { readonly isCookieBased?: boolean },
    tokens: TokenSet,
    replaced: readonly string[],
  ): Promise<void> {
    const { codec, registry, shared } = this.#context
    // From a session in a cookie only the app itself can have removed the tokens, and on purpose.
    const wasRemoved = (stored: unknown) => stored === undefined && !home.isCookieBased
    const isReplaced = (stored: TokenSet | undefined) => stored && replaced.includes(identityOf(stored))
    const isLost = (stored: unknown) =>
      !registry.endOf(tokens) && (wasRemoved(stored) || isReplaced(codec.read(stored)) === true)
    await raceWindowOver()
    if (!isLost(await home.reread())) return
    await shared.readQuickly(tokens)
    await home.replace(codec.write(tokens), isLost)
  }

  #endReplaced(
    session: SessionAdapter,
    identity: string,
    previous: TokenSet | undefined,
    tokens: TokenSet,
  ): Promise<Ending> {
    const { registry, shares } = this.#context
    const of = partsOf(identity)
    const seen = previous && identityOf(previous) === identity ? previous : registry.tokensOf(of.grantId)
    const reason = differentSubjects(seen?.idToken, tokens.idToken) ? 'logged_out' : 'replaced'
    return shares.leave(session, of, reason, seen)
  }

  /** Starts a grant with the tokens that the token endpoint issues for a code, a password or an assertion. */
  async acquire(
    session: SessionAdapter,
    parameters: AcquireParameters,
    fields: readonly string[] | undefined,
  ): Promise<void> {
    const { clock, refreshTimeoutMs, server } = this.#context
    const startedAt = clock.monotonic()
    // These throw before the code is spent if the session is missing or can no longer be written.
    session.read()
    session.checkStorable()
    const dpopKey = await keyOfNextLogin(this.#context, session)
    const response = await server.acquire(parameters, AbortSignal.timeout(refreshTimeoutMs), dpopKey)
    const nonce = ownValue(parameters, 'nonce') as string | undefined
    if (response.idToken !== undefined || nonce !== undefined)
      await this.#checkFirstIdToken(response, nonce, dpopKey)
    await this.set(session, dpopKey ? ownProperties({ ...response, dpopKey }) : response, fields, startedAt)
  }

  /** Checks the ID token of a login. If it is not accepted, the other tokens of the response are revoked, since no session gets them. */
  async #checkFirstIdToken(
    { accessToken, idToken, refreshToken }: RefreshResponse,
    nonce: string | undefined,
    dpopKey: DpopKey | undefined,
  ): Promise<void> {
    const { clock, refreshTimeoutMs, server } = this.#context
    try {
      if (idToken === undefined) throw refusedAtLogin('is missing, so the nonce cannot be checked')
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
      // Without a revocation endpoint the tokens stay valid until they expire.
      await server.revoke(refreshToken ?? accessToken, hint, signal, dpopKey).catch(() => {})
      throw error
    }
  }
}

import { BackgroundTasks } from '../concurrency/background-tasks.js'
import type { AcquireParameters } from '../oauth/authorization-server.js'
import type { SessionAdapter } from '../sessions/session-adapter.js'
import type { SessionGrants } from '../sessions/session-grants.js'
import type { EndReason } from '../tokens/events.js'
import { canRefresh, isLoginOver } from '../tokens/login-lifetime.js'
import type { TokenResponse } from '../tokens/token-response.js'
import { isDead, type TokenSet } from '../tokens/token-set.js'
import { AccessTokens } from './access-tokens.js'
import { BackchannelLogout } from './backchannel-logout.js'
import { ClientTokens } from './client-tokens.js'
import { GrantEnds } from './end-grant.js'
import { EndsOfUsers } from './ends-of-users.js'
import { isFirstUse } from './first-use.js'
import { Shares } from './grant-shares.js'
import { grantsInSessions } from './grants-in-sessions.js'
import { IgnoredCopies } from './ignored-copies.js'
import type { LeasedGrantContext } from './leased-grant.js'
import { Login } from './login.js'
import { keyForLogin } from './login-keys.js'
import { Logout } from './logout.js'
import { type LogoutParameters, logoutUrl } from './logout-url.js'
import type { ManagerContext } from './manager-context.js'
import { OfflineReferences } from './offline-references.js'
import { ReportedOnce } from './reported-once.js'
import { Restoration } from './restoration/restoration.js'
import { hearRetryAfter } from './retry-after.js'
import { SessionRepair } from './session-repair.js'
import { SessionViews } from './session-views.js'
import { SessionWriter } from './session-writer.js'

/** Keeps the tokens of sessions valid: returns a valid token, and refreshes first if there is none. */
export class TokenManager {
  readonly restoration: Restoration
  readonly sessionWriter: SessionWriter
  readonly ends: GrantEnds
  readonly ignoredCopies: IgnoredCopies
  readonly accessTokens: AccessTokens
  /** The client's own tokens. */
  readonly client: ClientTokens
  readonly offline: OfflineReferences
  readonly endsOfUsers: EndsOfUsers
  readonly backchannelLogout: BackchannelLogout
  /** The grants, as session adapters see them. */
  readonly sessionGrants: SessionGrants
  readonly #context: LeasedGrantContext
  readonly #background: BackgroundTasks
  readonly #stopListening: () => void
  readonly #login: Login
  readonly #logout: Logout
  readonly #views: SessionViews
  readonly #expired = new ReportedOnce()

  constructor(given: ManagerContext) {
    this.#background = new BackgroundTasks(given.waitUntil)
    this.sessionWriter = new SessionWriter(given)
    this.restoration = new Restoration({ ...given, sessionWriter: this.sessionWriter })
    const { restoration, sessionWriter } = this
    this.ends = new GrantEnds({ ...given, restoration })
    const shares = new Shares({ ...given, restoration, ends: this.ends })
    const client = new ClientTokens(given, this.#background)
    this.client = client
    const context = { ...given, restoration, sessionWriter, ends: this.ends, shares, client }
    this.#context = context
    this.ignoredCopies = new IgnoredCopies(context)
    this.sessionGrants = grantsInSessions(context)
    this.#login = new Login(context, this.#background)
    this.#logout = new Logout(context)
    this.endsOfUsers = new EndsOfUsers(context, this.#background)
    this.backchannelLogout = new BackchannelLogout({ ...context, endsOfUsers: this.endsOfUsers })
    const repair = new SessionRepair(context, this.#background)
    const onExpired = this.#reportExpiry.bind(this)
    const views = new SessionViews({ ...context, ignoredCopies: this.ignoredCopies, repair, onExpired })
    this.#views = views
    this.accessTokens = new AccessTokens({ ...context, views, repair, onExpired }, this.#background)
    this.offline = new OfflineReferences(context, views)
    given.shared.news.onText = (text) => hearRetryAfter(given, text)
    given.shared.onState = (grantId, state) => restoration.noteState(grantId, state)
    this.#stopListening = given.registry.onEnded((grantId) => {
      given.codec.forgetEnded(grantId)
      restoration.forgetEnded(grantId)
    })
  }

  /** Returns the newest tokens of a session that this process knows; `undefined` if the user is not logged in. No I/O. */
  tokensOf(session: SessionAdapter): TokenSet | undefined {
    return this.#views.tokensOf(session)
  }

  /**
   * Whether a session has tokens that are valid or can be refreshed, and its login is not over, as far as this process knows. Also
   * `true` for tokens that a later version of this library has written. Emits `ended` for tokens that have expired. No I/O.
   */
  hasTokens(session: SessionAdapter): boolean {
    const { codec, registry } = this.#context
    const tokens = this.tokensOf(session)
    if (!tokens) return codec.isOfLaterVersion(session.read())
    const now = registry.now(tokens.grantId)
    if (!this.#hasExpired(tokens, now)) return true
    this.#reportExpiry(tokens, now)
    return false
  }

  #hasExpired(tokens: TokenSet, now: number): boolean {
    if (isLoginOver(tokens, now, this.#context.maxLoginAgeMs)) return true
    return !canRefresh(tokens, now) && !tokens.accessTokens.some((token) => now < token.expiresAt)
  }

  /** Emits once that a grant has ended, if its login is over, or its tokens have expired and cannot be refreshed. */
  #reportExpiry(tokens: TokenSet, now: number): void {
    const { grantId } = tokens
    if (isDead(tokens) || !this.#hasExpired(tokens, now) || !this.#expired.isFirst(grantId)) return
    this.#context.emit({ type: 'ended', grantId, reason: 'expired', scope: 'grant', isLocal: true })
  }

  /**
   * Calls the listener once, with the reason, when the session's share of its grant has ended, in this process or in another; at
   * once if it has ended since the session was read. Returns a function that stops this; `undefined` if the user is not logged in.
   */
  onEnd(session: SessionAdapter, listener: (reason: EndReason) => void): (() => void) | undefined {
    const held = this.#views.identityOf(session)
    return held && this.#context.registry.onEnd(held, listener)
  }

  /** Resolves with the URL of the authorization server's logout for the user of a session, see {@link logoutUrl}. */
  logoutUrl(session: SessionAdapter, parameters: LogoutParameters): Promise<string> {
    return logoutUrl(this.#context, this.tokensOf(session), parameters)
  }

  /** Starts a grant with the tokens of a login, see {@link Login}. */
  set(session: SessionAdapter, response: TokenResponse, fields?: readonly string[]): Promise<void> {
    return this.#login.set(session, response, fields)
  }

  /**
   * Resolves with whether no other process has used the `state` of a login before. Resolves with `true` while the grant store
   * fails.
   */
  async isFirstUse(state: string, ttlMs: number): Promise<boolean> {
    if (!this.#context.shared.isShared) return true
    return isFirstUse(this.#context, 'login', state, ttlMs).catch(() => true)
  }

  /** Starts a grant with tokens from the token endpoint. */
  acquire(session: SessionAdapter, parameters: AcquireParameters, fields?: readonly string[]): Promise<void> {
    return this.#login.acquire(session, parameters, fields)
  }

  /** Returns the thumbprint of the key that the session's next login is bound to, for the authorization request. */
  async dpopThumbprint(session: SessionAdapter): Promise<string> {
    let tokens = this.tokensOf(session)
    if (tokens && !isDead(tokens) && !tokens.dpopKey) {
      // The grant's tokens are in the grant store, or the grant is older than the option `dpop`: a refresh gives it a key.
      const { token } = await this.accessTokens.get(session, {})
      tokens = this.tokensOf(session)
      if (tokens && !tokens.dpopKey) await this.accessTokens.get(session, { rejected: token })
      tokens = this.tokensOf(session)
    }
    const key = await keyForLogin(this.#context, session, tokens)
    return this.#context.dpop!.thumbprint(key)
  }

  /** Logs out here, see {@link Logout}. */
  clear(session: SessionAdapter): Promise<void> {
    return this.#logout.clear(session)
  }

  /** Logs out here and at the authorization server. */
  revoke(session: SessionAdapter): Promise<void> {
    return this.#logout.revoke(session)
  }

  /** Resolves when all refreshes have ended and their tokens are stored, or the stores have failed for 5 seconds. */
  async close(): Promise<void> {
    await this.#background.drain()
    await this.restoration.close()
    this.#context.shared.news.close()
    this.#stopListening()
  }
}

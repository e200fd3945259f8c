import type { BackgroundTasks } from '../concurrency/background-tasks.js'
import { QUICK_TIMEOUT_MS } from '../concurrency/time-constants.js'
import { ConfigurationError, SHARED_GRANT_STORES, TokenError } from '../errors/token-error.js'
import type { GrantEnd } from '../grants/grant-store.js'
import { ownProperties } from '../options/own-properties.js'
import { wholeGrant } from '../tokens/grant-proof.js'
import { newest, type TokenSet } from '../tokens/token-set.js'
import type { GrantEnds } from './end-grant.js'
import type { LoginClaims } from './grant-labels.js'
import type { LeasedGrantContext } from './leased-grant.js'
import { revokeAfterEnd } from './revocation.js'

export interface EndsOfUsersContext extends LeasedGrantContext {
  readonly ends: GrantEnds
}

/** The grants to end: all of a user, all of one login at the authorization server, or one grant. */
export type EndedWhom = { readonly sub: string } | { readonly sid: string } | { readonly grantId: string }

/** The user, the login and the time of a logout token. */
export interface LogoutClaims extends LoginClaims {
  /** When the logout token was issued, in seconds since the epoch. */
  readonly iat: number
}

/** How many grants are ended at a time. */
const AT_ONCE = 8

/** Ends grants without a session at hand: all grants of a user, or of a login at the authorization server. */
export class EndsOfUsers {
  readonly #context: EndsOfUsersContext

  readonly #background: BackgroundTasks

  constructor(context: EndsOfUsersContext, background: BackgroundTasks) {
    this.#context = context
    this.#background = background
  }

  /**
   * Ends grants here, in all processes and at the authorization server (RFC 7009). Resolves with the number of grants that had not
   * ended before. Every grant is tried before the first failure is thrown.
   */
  async end(whom: EndedWhom, reason: GrantEnd): Promise<number> {
    const grantIds = 'grantId' in whom ? [whom.grantId] : await this.#grantsWith(this.#labelOf(whom))
    const failures: TokenError[] = []
    const count = await this.#endAll(grantIds, (grantId) => this.#end(grantId, reason, failures))
    if (failures[0]) throw failures[0]
    return count
  }

  /**
   * Finds the grants that a logout token is about. Resolves with a function that ends them: no grant ends before its call. Rejects if the
   * grant store fails, since a record may show that its grant is of another login, or is newer than the logout token.
   */
  async prepareLogout({ sub, sid, iat }: LogoutClaims): Promise<() => Promise<number>> {
    const { labels } = this.#context
    const bySid = new Set(sid === undefined ? [] : await this.#grantsWith(labels.ofLogin(sid)))
    const bySub = sub === undefined ? [] : await this.#grantsWith(labels.ofUser(sub))
    // A grant whose ID token names no login is found by its user.
    const isBySub = sub !== undefined && sid !== undefined
    const withoutSid = new Set(isBySub ? await this.#grantsWith(labels.ofUserWithoutLogin(sub)) : [])
    const isMeant = (grantId: string, tokens: TokenSet | undefined): boolean => {
      const isWithoutSid = tokens ? !labels.claimsOf(tokens).sid : withoutSid.has(grantId)
      const isOfLogin = sid === undefined || bySid.has(grantId) || isWithoutSid
      return isOfLogin && (tokens?.loginIssuedAt ?? 0) <= iat * 1000
    }
    const meant: string[] = []
    await inBatches([...new Set([...bySid, ...bySub])], async (grantId) => {
      if (isMeant(grantId, await this.#seen(grantId))) meant.push(grantId)
    })
    return () => this.#endAll(meant, (grantId) => this.#end(grantId, 'backchannel_logout', []))
  }

  /** Resolves with the newest tokens of a grant, if this process can read them. */
  async #seen(grantId: string): Promise<TokenSet | undefined> {
    const { codec, registry, shared } = this.#context
    const known = registry.tokensOf(grantId)
    const grant = wholeGrant(grantId)
    const { record } = await shared.ask(shared.peek(grant), QUICK_TIMEOUT_MS, () => [])
    const found = codec.readRecord(known ?? grant, record?.tokens)
    return known ? newest(known, found) : found
  }

  #labelOf(whom: { readonly sub: string } | { readonly sid: string }): string {
    const { labels } = this.#context
    return 'sub' in whom ? labels.ofUser(whom.sub) : labels.ofLogin(whom.sid)
  }

  async #grantsWith(label: string): Promise<readonly string[]> {
    const { shared } = this.#context
    const { store } = shared
    if (!store.grantsWith) throw noLabelsError()
    return shared.ask(store.grantsWith(label), QUICK_TIMEOUT_MS, () => [])
  }

  async #endAll(grantIds: readonly string[], end: (grantId: string) => Promise<boolean>): Promise<number> {
    let count = 0
    await inBatches(grantIds, async (grantId) => {
      if (await end(grantId)) count++
    })
    return count
  }

  /** Ends one grant. Resolves with whether the grant ended now. Never rejects. */
  async #end(grantId: string, reason: GrantEnd, failures: TokenError[]): Promise<boolean> {
    const { codec, emit, ends, registry, shared } = this.#context
    const grant = wholeGrant(grantId)
    const known = registry.tokensOf(grantId)
    const state = await shared.peek(grant, QUICK_TIMEOUT_MS).catch(() => undefined)
    if (state?.ended) shared.learnEnd(grant, state.ended)
    if (registry.ended(grantId)) return false
    const found = codec.readRecord(known ?? grant, state?.record?.tokens)
    const seen = known ? newest(known, found) : found
    const refreshing = registry.peek(grantId)?.inFlight
    const ending = ends.end(grant, reason, seen, { home: undefined, maxAgeMs: undefined })
    const { record, failure } = ownProperties(await ending)
    const last = codec.readRecord(seen ?? grant, record?.tokens)
    const tokens = seen ? newest(seen, last) : last
    if (failure) failures.push(failure)
    if (!tokens && (record ?? state?.record))
      emit({ type: 'revocation_failed', grantId, error: unreadableError() })
    const revoking = this.#revoke(grantId, () =>
      revokeAfterEnd(this.#context, refreshing, record?.isLeased, tokens && (() => tokens)),
    )
    // The authorization server waits for the response to its logout token.
    if (reason === 'backchannel_logout') this.#background.run(`revocation ${grantId}`, revoking)
    else failures.push(...[await revoking].filter((error) => error !== undefined))
    return true
  }

  /** Runs a revocation. Emits its failure, and resolves with the error; with `undefined` after a success. */
  async #revoke(grantId: string, revoke: () => Promise<void>): Promise<TokenError | undefined> {
    try {
      await revoke()
      return undefined
    } catch (error) {
      this.#context.emit({ type: 'revocation_failed', grantId, error: error as TokenError })
      return error as TokenError
    }
  }
}

/** Does some work for each grant, {@link AT_ONCE} at a time. */
async function inBatches(
  grantIds: readonly string[],
  work: (grantId: string) => Promise<void>,
): Promise<void> {
  for (let at = 0; at < grantIds.length; at += AT_ONCE) {
    await Promise.all(grantIds.slice(at, at + AT_ONCE).map(work))
  }
}

function noLabelsError(): ConfigurationError {
  return new ConfigurationError(
    'The grant store cannot find the grants of a user: it has no method grantsWith(). ' +
      `Use ${SHARED_GRANT_STORES}, or add the method to your grant store.`,
  )
}

function unreadableError(): TokenError {
  return new TokenError(
    'ERR_GRANT_STORE',
    'The grant has ended, but its tokens were not revoked at the authorization server, since this process cannot open their record ' +
      "in the grant store. With keep: 'store' only the key in the session opens it. Otherwise check that this process has the " +
      'encryptionKeys of the process that stored it. The tokens stay valid at the authorization server until they expire, or until ' +
      'the user logs out there.',
  )
}

import { GRANT_STORE_TIMEOUT_MS } from '../concurrency/time-constants.js'
import type { Grant } from '../grants/grant.js'
import type { GrantState } from '../grants/grant-store.js'
import { isOfSeveral } from '../grants/shared-grants.js'
import type { SessionAdapter } from '../sessions/session-adapter.js'
import { raceWindowOver } from '../sessions/store/write-race.js'
import { sharesToken, wholeGrant } from '../tokens/grant-proof.js'
import { newest, secretsOf, type TokenSet, withShare, withSharesOf } from '../tokens/token-set.js'
import type { ManagerContext } from './manager-context.js'
import { LostReferenceError, noTokensError, unreadableTokensError } from './manager-errors.js'
import type { Restoration } from './restoration/restoration.js'
import { sessionStoreError } from './session-writer.js'

export interface NewestTokensContext extends ManagerContext {
  readonly restoration: Restoration
}

/** The grant that is refreshed, the session that asks for a token, and the tokens in that session. */
export interface SessionOfGrant {
  readonly grant: Grant
  readonly session: SessionAdapter
  readonly tokens: TokenSet
  /** The session's share of the grant, see `newShare()`. */
  readonly share: string | undefined
}

/** Finds the newest tokens of a grant for one refresh: in this process, in the grant store and in the session. */
export class NewestTokens {
  readonly #context: NewestTokensContext
  readonly #grant: Grant
  readonly #session: SessionAdapter
  /** The share of the session that started the refresh. */
  readonly #share: string | undefined
  /** All token sets of this refresh. No error may show a token of them. */
  readonly #seen: TokenSet[]
  /** The newest tokens that this refresh has found or got. */
  tokens: TokenSet

  constructor(context: NewestTokensContext, { grant, session, tokens, share }: SessionOfGrant) {
    this.#context = context
    this.#grant = grant
    this.#session = session
    this.#share = share
    this.#seen = [tokens]
    this.tokens = tokens
  }

  /** Returns the newest tokens as the session that started the refresh is to hold them: with its own share. */
  get ofSession(): TokenSet {
    return withShare(this.tokens, this.#share)
  }

  /** Returns how long ago the grant was last refreshed, by its tokens, in milliseconds. */
  get idleMs(): number | undefined {
    const { accessTokens } = this.tokens
    if (accessTokens.length === 0) return undefined
    return Math.max(0, this.#grant.now() - Math.max(...accessTokens.map(({ obtainedAt }) => obtainedAt)))
  }

  /** Returns every string that no error of this refresh may show. */
  secrets(): string[] {
    return this.#seen.flatMap(secretsOf)
  }

  /** Keeps tokens that this refresh got from the authorization server, in this process. */
  keep(tokens: TokenSet): void {
    this.#use(tokens)
    this.#context.registry.learn(tokens)
  }

  /**
   * Reads the stored session again, and learns from it. Resolves with whether it held newer tokens.
   *
   * @throws `ERR_SESSION_STORE` if the session cannot be read, `ERR_NO_TOKENS` if the grant has ended
   */
  async reread(): Promise<boolean> {
    const { codec } = this.#context
    const copy = await this.#session.reread().catch((error) => {
      throw sessionStoreError(error, this.secrets())
    })
    if (this.#grant.ended) throw noTokensError()
    const found = codec.read(copy)
    if (!found && typeof copy === 'string') throw unreadableTokensError('ERR_SESSION_STORE')
    return this.#learn(found)
  }

  /** Learns the newest tokens that this process knows by now. */
  learnFromProcess(): void {
    this.#use(newest(this.tokens, this.#grant.tokens))
  }

  /**
   * Learns the state of the grant store. Resolves with the tokens of its record, if this process can read them. It may wait: for the
   * end of a write race, or for the grant store, which knows whether the session's share has ended.
   *
   * @throws `ERR_NO_TOKENS` if the grant or the share has ended, or the record is not of the session's grant
   */
  async learnState(state: GrantState): Promise<TokenSet | undefined> {
    const { codec, restoration, shared } = this.#context
    const { id } = this.#grant
    if (state.ended) shared.learnEnd(wholeGrant(id), state.ended)
    if (this.#grant.ended) throw noTokensError()
    const found = codec.readRecord(this.tokens, state.record?.tokens)
    if (found && !(await this.#isOfGrant(found))) throw noTokensError()
    this.#learn(found)
    restoration.noteState(id, state, this.#session)
    const share = this.#share
    if (isOfSeveral(share, found ?? this.tokens)) {
      await shared.ask(shared.learnOfShare(this.ofSession), GRANT_STORE_TIMEOUT_MS, () => this.secrets())
    }
    if (this.#grant.endOf(share)) throw noTokensError()
    return found
  }

  /**
   * Throws if this process cannot read newer tokens, since the refresh token at hand may have been spent: the record is of another
   * key or version, or it was lost and there is no session with a copy.
   */
  requireReadable({ record }: GrantState): void {
    if (!record) {
      if (this.#session.isReadOnly && this.#context.shared.isShared) throw new LostReferenceError()
      return
    }
    const isNewer = record.revision > this.tokens.revision
    if (isNewer || this.#context.codec.isOfLaterVersion(record.tokens)) {
      throw unreadableTokensError('ERR_GRANT_STORE')
    }
  }

  /**
   * Resolves with whether the session's tokens are of the grant whose record was found. Tokens without a proof are of the grant
   * if they have a token in common with the record. If another process has just refreshed, the session is about to get such a
   * token.
   */
  async #isOfGrant(found: TokenSet): Promise<boolean> {
    const { codec } = this.#context
    const isProven = () => codec.isProof(this.tokens) || sharesToken(this.tokens, found)
    const rereadIsProven = async () => {
      const reread = codec.read(await this.#session.reread().catch(() => undefined))
      this.#use(newest(this.tokens, reread))
      return isProven()
    }
    if (isProven()) return true
    this.learnFromProcess()
    if (isProven() || (await rereadIsProven())) return true
    await raceWindowOver()
    return rereadIsProven()
  }

  /** Returns whether the tokens that were found are newer. */
  #learn(found: TokenSet | undefined): boolean {
    const tokens = withSharesOf(newest(this.tokens, found), found)
    if (tokens === this.tokens) return false
    this.#context.shared.learnTokens(tokens)
    this.#use(tokens)
    return true
  }

  #use(tokens: TokenSet): void {
    if (tokens === this.tokens) return
    this.#seen.push(tokens)
    this.tokens = tokens
  }
}

import { ConfigurationError } from '../errors/token-error.js'
import { ownProperties } from '../options/own-properties.js'
import type { TokenSet } from '../tokens/token-set.js'
import type { OfflineReference } from './codec/offline-reference.js'
import { GrantReference } from './codec/token-set-codec.js'
import type { SessionAdapter, SessionHome } from './session-adapter.js'
import type { GrantSession } from './session-grants.js'

/**
 * Takes the place of a session for code with a reference to its grant. The grant store has the tokens. Once this process knows
 * where the session is stored, the copy there is read, and gets new tokens as well.
 */
export class OfflineSession implements SessionAdapter {
  readonly isCookieBased = false
  readonly canStoreLater = true
  readonly maxAgeMs: number
  /** The time until which the grant store was asked to keep the grant, in milliseconds since the epoch. */
  readonly keptUntil: number
  readonly #findHome: (of: GrantSession) => SessionHome | undefined
  readonly #copy: GrantReference

  /** @param findHome returns where the session of the grant is stored, if this process knows it by now */
  constructor(
    { grantId, proof, share, keepMs, keptUntil }: OfflineReference,
    findHome: (of: GrantSession) => SessionHome | undefined,
  ) {
    this.maxAgeMs = keepMs
    this.keptUntil = keptUntil
    this.#findHome = findHome
    this.#copy = new GrantReference(
      ownProperties({
        grantId,
        ...(proof !== undefined && { proof }),
        ...(share !== undefined && { share }),
        revision: 0,
        accessTokens: [],
        isReference: true as const,
      }),
    )
  }

  /** Names the grant, and holds its proof. */
  get reference(): TokenSet {
    return this.#copy.tokens
  }

  get home(): SessionHome | undefined {
    return this.#findHome(this.reference)
  }

  get isReadOnly(): boolean {
    return this.home === undefined
  }

  get lastKnown(): unknown {
    return this.#copy
  }

  read(): unknown {
    return this.#copy
  }

  /**
   * Reads the copy in the stored session. If this process cannot read that, resolves with the reference, whose tokens are in the
   * grant store.
   */
  async reread(): Promise<unknown> {
    const copy = await this.home?.reread().catch(() => undefined)
    return copy ?? this.#copy
  }

  checkStorable(): void {
    // The grant store keeps new tokens.
  }

  async save(): Promise<never> {
    throw new ConfigurationError(
      'A reference cannot be logged in. Log the user in with req.tokens.set() or acquire().',
    )
  }

  async replace(copy: unknown, replaces: (stored: unknown) => boolean): Promise<boolean> {
    return (await this.home?.replace(copy, replaces)) ?? false
  }

  async clear(clears: (stored: unknown) => boolean): Promise<void> {
    await this.home?.replace(undefined, clears)
  }
}

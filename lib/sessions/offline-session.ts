import { ConfigurationError } from '../errors/token-error.js'
import { ownProperties } from '../options/own-properties.js'
import type { TokenSet } from '../tokens/token-set.js'
import type { OfflineReference } from './codec/offline-reference.js'
import { GrantReference } from './codec/token-set-codec.js'
import type { SessionAdapter, SessionHome } from './session-adapter.js'

/**
 * What takes the place of a session where there is a reference to its grant. The grant store has the tokens. If the session is
 * known to this process, its stored copy gets new tokens as well.
 */
export class OfflineSession implements SessionAdapter {
  readonly isCookieBased = false
  readonly canStoreLater = true
  readonly maxAgeMs: number
  /** Until when the grant store was asked to keep the grant, in milliseconds since the epoch. */
  readonly keptUntil: number
  readonly home: SessionHome | undefined
  readonly #copy: GrantReference

  /** @param home where the session of the grant is stored, if this process knows it */
  constructor({ grantId, proof, share, keepMs, keptUntil }: OfflineReference, home: SessionHome | undefined) {
    this.maxAgeMs = keepMs
    this.keptUntil = keptUntil
    this.home = home
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

  get isReadOnly(): boolean {
    return this.home === undefined
  }

  get lastKnown(): unknown {
    return this.#copy
  }

  read(): unknown {
    return this.#copy
  }

  async reread(): Promise<unknown> {
    return this.#copy
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
    return this.home ? this.home.replace(copy, replaces) : false
  }

  async clear(clears: (stored: unknown) => boolean): Promise<void> {
    await this.home?.replace(undefined, clears)
  }
}

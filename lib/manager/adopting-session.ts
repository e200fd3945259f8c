import type { SessionAdapter, SessionHome } from '../sessions/session-adapter.js'
import { ADOPTED } from '../tokens/grant-proof.js'
import type { TokenSet } from '../tokens/token-set.js'

/** Finds and adopts the tokens that an app has for its requests. */
export interface Adopter {
  /** Returns the app's tokens for a request as the first tokens of a grant. `known` are the tokens of the last call. */
  handedOver(request: unknown, known: TokenSet | undefined): TokenSet | undefined
  /** Returns the tokens in a session copy, unless their grant has ended. */
  live(copy: unknown): TokenSet | undefined
  isOfLaterVersion(copy: unknown): boolean
  copyOf(tokens: TokenSet): unknown
  /** Adopts tokens into a session. Resolves with whether the session holds them now. */
  adopt(session: SessionAdapter, tokens: TokenSet): Promise<boolean>
  /** Ends the grant of the tokens that the app has for a request, if it has any. */
  endAdopted(session: SessionAdapter, request: unknown): Promise<void>
}

/**
 * A request's session that shows the app's tokens while it holds no tokens of a login by `set()`. Finding them costs no I/O. They
 * are adopted before an access token is returned.
 */
export class AdoptingSession implements SessionAdapter {
  readonly #adopter: Adopter
  readonly #session: SessionAdapter
  readonly #request: unknown
  #handedOver: TokenSet | undefined
  /** The adoption that this request has tried, and whether the session holds the grant. */
  #attempt: { readonly grantId: string; readonly isAdopted: boolean } | undefined

  constructor(adopter: Adopter, session: SessionAdapter, request: unknown) {
    this.#adopter = adopter
    this.#session = session
    this.#request = request
  }

  get isCookieBased(): boolean {
    return this.#session.isCookieBased
  }

  get canStoreLater(): boolean {
    return this.#session.canStoreLater
  }

  get maxAgeMs(): number | undefined {
    return this.#session.maxAgeMs
  }

  get lastKnown(): unknown {
    return this.#session.lastKnown
  }

  get home(): SessionHome | undefined {
    return this.#session.home
  }

  read(): unknown {
    const copy = this.#session.read()
    const found = this.#found(copy)
    if (!found) return copy
    const copyOfFound = this.#adopter.copyOf(found)
    const hasFailed = this.#attempt?.grantId === found.grantId && !this.#attempt.isAdopted
    return hasFailed || !this.#adopter.live(copyOfFound) ? undefined : copyOfFound
  }

  /** Adopts the app's tokens if the session holds no tokens of a login by `set()`. Called before an access token is returned. */
  async adopt(): Promise<void> {
    const found = this.#found(this.#session.read())
    if (!found || this.#attempt?.grantId === found.grantId) return
    const isAdopted = await this.#adopter.adopt(this.#session, found)
    this.#attempt = { grantId: found.grantId, isAdopted }
  }

  checkStorable(): void {
    this.#session.checkStorable()
  }

  reread(): Promise<unknown> {
    return this.#session.reread()
  }

  save(copy: unknown): Promise<readonly string[]> {
    return this.#session.save(copy)
  }

  async regenerate(fields: readonly string[]): Promise<void> {
    await this.#session.regenerate?.(fields)
  }

  replace(copy: unknown, replaces: (stored: unknown) => boolean): Promise<boolean> {
    return this.#session.replace(copy, replaces)
  }

  /** Clears the session, and ends the grant of the app's own tokens, so that they are not adopted after the logout. */
  async clear(clears: (stored: unknown) => boolean): Promise<void> {
    await Promise.all([this.#session.clear(clears), this.#adopter.endAdopted(this.#session, this.#request)])
  }

  /** Returns the app's tokens, unless the session holds tokens of a login by `set()` or has adopted these already. */
  #found(copy: unknown): TokenSet | undefined {
    const held = this.#adopter.live(copy)
    if (!held && this.#adopter.isOfLaterVersion(copy)) return undefined
    if (held && !held.grantId.startsWith(ADOPTED)) return undefined
    this.#handedOver = this.#adopter.handedOver(this.#request, this.#handedOver)
    return this.#handedOver?.grantId === held?.grantId ? undefined : this.#handedOver
  }
}

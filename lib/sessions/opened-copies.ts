import { LRUCache } from 'lru-cache'
import type { TokenSet } from '../token-set.js'
import type { SessionCopy } from './session-copy.js'

/** Whether a token set holds tokens of a grant that is over, or of a session that has left it. */
export type HoldsEndedTokens = (tokens: TokenSet) => boolean

/**
 * Copies that are held opened: the one that was read last, since a request asks about it several times in a row, and `max`
 * others. Tokens of a grant that is over are not held, so that they leave the memory.
 */
export class OpenedCopies {
  readonly #holdsEndedTokens: HoldsEndedTokens
  readonly #opened: LRUCache<SessionCopy, TokenSet> | undefined
  #last: { readonly copy: SessionCopy; readonly tokens: TokenSet } | undefined
  /** The copies of each grant that hold tokens. References hold none. */
  readonly #ofGrants = new Map<string, Set<SessionCopy>>()

  constructor(max: number, holdsEndedTokens: HoldsEndedTokens = () => false) {
    this.#holdsEndedTokens = holdsEndedTokens
    if (max > 0) this.#opened = new LRUCache({ max, dispose: (tokens, copy) => this.#disposed(copy, tokens) })
  }

  get(copy: SessionCopy): TokenSet | undefined {
    if (this.#last?.copy === copy) return this.#last.tokens
    const tokens = this.#opened?.get(copy)
    if (tokens) this.#last = { copy, tokens }
    return tokens
  }

  keep(copy: SessionCopy, tokens: TokenSet): void {
    if (this.#holdsEndedTokens(tokens)) return
    this.#last = { copy, tokens }
    if (!this.#opened) return
    this.#opened.set(copy, tokens)
    if (tokens.isElsewhere) return
    const copies = this.#ofGrants.get(tokens.grantId) ?? new Set()
    this.#ofGrants.set(tokens.grantId, copies.add(copy))
  }

  /** Forgets the tokens of a grant that is over, or of a session that has left it. */
  forgetEnded(grantId: string): void {
    const last = this.#last?.tokens
    if (last?.grantId === grantId && this.#holdsEndedTokens(last)) this.#last = undefined
    for (const copy of this.#ofGrants.get(grantId) ?? []) {
      const tokens = this.#opened?.peek(copy)
      if (tokens && this.#holdsEndedTokens(tokens)) this.#opened?.delete(copy)
    }
  }

  #disposed(copy: SessionCopy, { grantId }: TokenSet): void {
    const copies = this.#ofGrants.get(grantId)
    copies?.delete(copy)
    if (copies?.size === 0) this.#ofGrants.delete(grantId)
  }
}

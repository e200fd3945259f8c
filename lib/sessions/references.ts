import { randomBytes } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { TokenSet } from '../token-set.js'
import { type Seal, seal } from './sealing.js'
import { parsed, SessionCopies, type SessionCopy } from './session-copy.js'

/** The version of the format below. A reference of another version counts as none. */
const VERSION = 1
const KEY_BYTES = 32
/** Of how many grants the keys are at hand. Any other one is read from its session again. */
const MAX_GRANTS = 10_000

/** What a session holds of a grant, and the key in it. */
interface Known {
  readonly key: string
  readonly reference: SessionCopy
  /** The grant's token sets, sealed with the key. */
  readonly copies: SessionCopies
}

/** What was read from a session. */
interface Opened {
  readonly tokens: TokenSet
  readonly key: string
}

/**
 * What a session holds where the grant store keeps the tokens: the grant's id, and the key that its token sets are sealed
 * with. Neither the session nor the grant store is of use without the other.
 */
export class References extends SessionCopies {
  override readonly isReference = true
  readonly #audience: string
  readonly #seal: Seal | undefined
  readonly #grants = new LRUCache<string, Known>({ max: MAX_GRANTS })
  readonly #opened = new LRUCache<SessionCopy, Opened>({ max: MAX_GRANTS })

  /** @param audience names the client and its authorization server; references of another audience are refused */
  constructor(audience: string, seal?: Seal) {
    super(audience, seal)
    this.#audience = audience
    this.#seal = seal
  }

  override write({ grantId }: TokenSet): SessionCopy {
    return this.#of(grantId).reference
  }

  override read(reference: unknown): TokenSet | undefined {
    if (typeof reference !== 'string') return undefined
    const opened = this.#opened.get(reference) ?? this.#open(reference)
    if (!opened) return undefined
    const { tokens, key } = opened
    // A session that only serves valid tokens is read for longer than its key is asked for.
    if (this.#grants.get(tokens.grantId)?.key !== key) this.#learn(tokens.grantId, key, reference)
    return tokens
  }

  override record(tokens: TokenSet): string {
    return this.#of(tokens.grantId).copies.write(tokens)
  }

  override readRecord(grantId: string, record: string | undefined): TokenSet | undefined {
    return this.#grants.get(grantId)?.copies.read(record)
  }

  #open(reference: SessionCopy): Opened | undefined {
    const text = this.#seal ? this.#seal.open(reference) : reference
    const { version, audience, grantId, key } = (text === undefined ? undefined : parsed(text)) ?? {}
    if (version !== VERSION || audience !== this.#audience) return undefined
    if (typeof grantId !== 'string' || grantId === '' || typeof key !== 'string' || key === '')
      return undefined
    const opened: Opened = { tokens: { grantId, revision: 0, accessTokens: [], isElsewhere: true }, key }
    this.#opened.set(reference, opened)
    return opened
  }

  /** What is known of a grant; of a new one a key is made. */
  #of(grantId: string): Known {
    const known = this.#grants.get(grantId)
    if (known) return known
    const key = randomBytes(KEY_BYTES).toString('base64url')
    const text = JSON.stringify({ version: VERSION, audience: this.#audience, grantId, key })
    return this.#learn(grantId, key, this.#seal ? this.#seal.seal(text) : text)
  }

  #learn(grantId: string, key: string, reference: SessionCopy): Known {
    const known = { key, reference, copies: new SessionCopies(this.#audience, seal([key], this.#audience)) }
    this.#grants.set(grantId, known)
    return known
  }
}

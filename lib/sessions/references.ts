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

interface Key {
  readonly text: string
  readonly copies: SessionCopies
}

/**
 * What a session holds where the grant store keeps the tokens: the grant's id, and the key that its token sets are sealed
 * with. Neither the session nor the grant store is of use without the other.
 */
export class References extends SessionCopies {
  override readonly isReference = true
  readonly #audience: string
  readonly #seal: Seal | undefined
  readonly #keys = new LRUCache<string, Key>({ max: MAX_GRANTS })
  readonly #written = new LRUCache<string, SessionCopy>({ max: MAX_GRANTS })
  readonly #opened = new LRUCache<SessionCopy, TokenSet>({ max: MAX_GRANTS })

  /** @param audience names the client and its authorization server; references of another audience are refused */
  constructor(audience: string, seal?: Seal) {
    super(audience, seal)
    this.#audience = audience
    this.#seal = seal
  }

  override write({ grantId }: TokenSet): SessionCopy {
    const written = this.#written.get(grantId)
    if (written !== undefined) return written
    const key = this.#keys.get(grantId) ?? this.#learn(grantId, randomBytes(KEY_BYTES).toString('base64url'))
    const text = JSON.stringify({ version: VERSION, audience: this.#audience, grantId, key: key.text })
    const reference = this.#seal ? this.#seal.seal(text) : text
    this.#written.set(grantId, reference)
    return reference
  }

  override read(reference: unknown): TokenSet | undefined {
    if (typeof reference !== 'string') return undefined
    const opened = this.#opened.get(reference) ?? this.#open(reference)
    if (opened) this.#opened.set(reference, opened)
    return opened
  }

  #open(reference: SessionCopy): TokenSet | undefined {
    const text = this.#seal ? this.#seal.open(reference) : reference
    const { version, audience, grantId, key } = (text === undefined ? undefined : parsed(text)) ?? {}
    if (version !== VERSION || audience !== this.#audience) return undefined
    if (typeof grantId !== 'string' || grantId === '' || typeof key !== 'string' || key === '')
      return undefined
    if (this.#keys.get(grantId)?.text !== key) this.#learn(grantId, key)
    this.#written.set(grantId, reference)
    return { grantId, revision: 0, accessTokens: [], isElsewhere: true }
  }

  override record(tokens: TokenSet): string {
    this.write(tokens)
    return this.#keys.get(tokens.grantId)!.copies.write(tokens)
  }

  override readRecord(grantId: string, record: string | undefined): TokenSet | undefined {
    return this.#keys.get(grantId)?.copies.read(record)
  }

  #learn(grantId: string, text: string): Key {
    const key = { text, copies: new SessionCopies(this.#audience, seal([text], this.#audience)) }
    this.#keys.set(grantId, key)
    return key
  }
}

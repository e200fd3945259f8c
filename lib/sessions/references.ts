import { LRUCache } from 'lru-cache'
import { grantIdOf, hasProof, identityOf } from '../grant-proof.js'
import { type TokenSet, withShare } from '../token-set.js'
import { type Seal, seal } from './sealing.js'
import {
  type GrantKey,
  type ProvesByTokens,
  parsed,
  SessionCopies,
  type SessionCopy,
} from './session-copy.js'

/** The version of the format below. A reference of another version counts as none. */
const VERSION = 2
/** The version before: its ids are not made from the key. */
const ANY_ID = 1
/** How many references are held opened. */
const MAX_OPENED = 10_000

/**
 * What a session holds where the grant store keeps the tokens: the grant's id, and its proof, which is the key that its token
 * sets are sealed with. Neither the session nor the grant store is of use without the other.
 */
export class References extends SessionCopies {
  override readonly isReference = true
  readonly #audience: string
  readonly #seal: Seal | undefined
  readonly #provesByTokens: ProvesByTokens
  readonly #opened = new LRUCache<SessionCopy, TokenSet>({ max: MAX_OPENED })
  /** Sealing the same twice gives two texts, and a session is to keep the one that it has. */
  readonly #written = new LRUCache<string, SessionCopy>({ max: MAX_OPENED })

  /** @param audience names the client and its authorization server; references of another audience are refused */
  constructor(audience: string, seal?: Seal, provesByTokens: ProvesByTokens = () => true) {
    super(audience, seal)
    this.#audience = audience
    this.#seal = seal
    this.#provesByTokens = provesByTokens
  }

  override write({ grantId, proof, share: own }: TokenSet, share = own): SessionCopy {
    const identity = identityOf({ grantId, ...(share !== undefined && { share }) })
    const written = this.#written.get(identity)
    if (written !== undefined) return written
    const version = hasProof(grantId) ? VERSION : ANY_ID
    const text = JSON.stringify({ version, audience: this.#audience, grantId, key: proof, share })
    const reference = this.#seal ? this.#seal.seal(text) : text
    this.#written.set(identity, reference)
    return reference
  }

  override read(reference: unknown): TokenSet | undefined {
    if (typeof reference !== 'string') return undefined
    const tokens = this.#opened.get(reference) ?? this.#open(reference)
    return tokens && (this.isProof(tokens) || this.#provesByTokens(tokens)) ? tokens : undefined
  }

  /** The key of the version before is any key: it proves itself by what it opens. */
  override isProof({ grantId }: TokenSet): boolean {
    return hasProof(grantId) || this.#seal !== undefined
  }

  override record(tokens: TokenSet): string {
    const { proof, ...withoutProof } = withShare(tokens, undefined)
    const isOfProof = hasProof(tokens.grantId) && proof !== undefined
    return this.#sealOf(tokens).seal(this.textOf(isOfProof ? { ...withoutProof, proof } : withoutProof))
  }

  override readRecord(of: GrantKey, record: string | undefined): TokenSet | undefined {
    const text = record === undefined ? undefined : this.#sealOf(of).open(record)
    const tokens = text === undefined ? undefined : this.parse(text)
    return tokens && { ...tokens, ...(of.proof !== undefined && { proof: of.proof }) }
  }

  /** What the grant's token sets are sealed with. It is used at logins and refreshes alone, so none is kept. */
  #sealOf({ proof = '' }: GrantKey): Seal {
    return seal([proof], this.#audience)
  }

  #open(reference: SessionCopy): TokenSet | undefined {
    const text = this.#seal ? this.#seal.open(reference) : reference
    const { version, audience, grantId, key, share } = (text === undefined ? undefined : parsed(text)) ?? {}
    if (audience !== this.#audience) return undefined
    if (typeof grantId !== 'string' || grantId === '' || typeof key !== 'string' || key === '')
      return undefined
    const isProven = version === VERSION && grantId === grantIdOf(key)
    if (!isProven && (version !== ANY_ID || hasProof(grantId))) return undefined
    if (share !== undefined && typeof share !== 'string') return undefined
    const tokens: TokenSet = {
      grantId,
      proof: key,
      ...(share !== undefined && { share }),
      revision: 0,
      accessTokens: [],
      isElsewhere: true,
    }
    this.#opened.set(reference, tokens)
    this.#written.set(identityOf(tokens), reference)
    return tokens
  }
}

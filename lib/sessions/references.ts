import { LRUCache } from 'lru-cache'
import { ADOPTED, hasProof, identityOf } from '../grant-proof.js'
import { ownProperties } from '../own-properties.js'
import { type TokenSet, withShare } from '../token-set.js'
import type { Seal } from './sealing.js'
import {
  type ProvesByTokens,
  SessionCopies,
  type SessionCopiesOptions,
  type SessionCopy,
} from './session-copy.js'

/** The version of the format below. */
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
  /** Sealing the same twice gives two texts, and a session is to keep the one that it has. */
  readonly #written = new LRUCache<string, SessionCopy>({ max: MAX_OPENED })

  /** @param audience names the client and its authorization server; references of another audience are refused */
  constructor(
    audience: string,
    seal?: Seal,
    provesByTokens?: ProvesByTokens,
    options: SessionCopiesOptions = {},
  ) {
    super(audience, seal, provesByTokens, { maxOpened: MAX_OPENED, ...options })
    this.#audience = audience
    this.#seal = seal
  }

  /** A grant without a proof, from before there were proofs, stays a copy until the next login. */
  override write(tokens: TokenSet, share = tokens.share): SessionCopy {
    if (!isKeyed(tokens)) return super.write(tokens, share)
    const { grantId, proof } = tokens
    const identity = identityOf(ownProperties({ grantId, ...(share !== undefined && { share }) }))
    const written = this.#written.get(identity)
    if (written !== undefined) return written
    const version = hasProof(grantId) ? VERSION : ANY_ID
    const text = JSON.stringify({ version, audience: this.#audience, grantId, key: proof, share })
    const reference = this.#seal ? this.#seal.seal(text) : text
    this.#written.set(identity, reference)
    return reference
  }

  override read(copy: unknown): TokenSet | undefined {
    const tokens = super.read(copy)
    if (!tokens?.isElsewhere || this.isToBeSealed(copy)) return tokens
    const identity = identityOf(tokens)
    if (!this.#written.has(identity)) this.#written.set(identity, copy as SessionCopy)
    return tokens
  }

  override record(tokens: TokenSet): string {
    if (!isKeyed(tokens)) return super.record(tokens)
    return this.sealOf(tokens).seal(this.textOf(withShare(tokens, undefined)))
  }
}

/** Whether a grant has a key that its token sets are sealed with. The proof of an adopted grant is a token. */
function isKeyed({ grantId, proof }: TokenSet): boolean {
  return proof !== undefined && !grantId.startsWith(ADOPTED)
}

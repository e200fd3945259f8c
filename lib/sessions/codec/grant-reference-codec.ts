import { LRUCache } from 'lru-cache'
import { ownProperties } from '../../options/own-properties.js'
import { ADOPTED, hasProof, identityOf } from '../../tokens/grant-proof.js'
import { type TokenSet, withShare } from '../../tokens/token-set.js'
import { atMost } from '../grant-cache.js'
import type { Seal } from './sealing.js'
import {
  type ProvesByTokens,
  type SessionCopy,
  TokenSetCodec,
  type TokenSetCodecOptions,
} from './token-set-codec.js'

/** The version of the format below. */
const VERSION = 2
/** The version before. Its ids are not made from the key. */
const ANY_ID = 1
/** How many references are held opened. */
const MAX_OPENED = 10_000

/**
 * Writes references for sessions whose tokens the grant store keeps: the grant's id, and its proof, which is the key of its
 * sealed token sets. Neither the session nor the grant store is of use without the other.
 */
export class GrantReferenceCodec extends TokenSetCodec {
  override readonly writesReferences = true
  readonly #audience: string
  readonly #seal: Seal | undefined
  /** The reference of each session: sealing again gives another text, and a session is to keep the text that it has. */
  readonly #written = new LRUCache<string, SessionCopy>(atMost(MAX_OPENED))

  /** @param audience names the client and its authorization server; references of another audience are refused */
  constructor(
    audience: string,
    seal?: Seal,
    provesByTokens?: ProvesByTokens,
    options: TokenSetCodecOptions = {},
  ) {
    super(audience, seal, provesByTokens, { maxOpened: MAX_OPENED, ...options })
    this.#audience = audience
    this.#seal = seal
  }

  /** Returns the reference. A grant of an earlier version, which has no proof, stays a copy until the next login. */
  override write(tokens: TokenSet, share = tokens.share): SessionCopy {
    if (!isKeyed(tokens)) return super.write(tokens, share)
    const { grantId, proof } = tokens
    this.forgetRemovedKeys()
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
    if (!tokens?.isReference || typeof copy !== 'string' || this.isToBeSealed(copy)) return tokens
    const identity = identityOf(tokens)
    if (!this.#written.has(identity)) this.#written.set(identity, copy)
    return tokens
  }

  protected override forgetRemovedKeys(): boolean {
    const hasForgotten = super.forgetRemovedKeys()
    if (hasForgotten) this.#written.clear()
    return hasForgotten
  }

  override record(tokens: TokenSet): string {
    if (!isKeyed(tokens)) return super.record(tokens)
    return this.sealOf(tokens).seal(this.textOf(withShare(tokens, undefined)))
  }
}

/** Whether a grant has a key to seal its token sets with. The proof of an adopted grant is a token, not a key. */
function isKeyed({ grantId, proof }: TokenSet): boolean {
  return proof !== undefined && !grantId.startsWith(ADOPTED)
}

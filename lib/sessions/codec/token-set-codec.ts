import { ConfigurationError } from '../../errors/token-error.js'
import { ownProperties } from '../../options/own-properties.js'
import type { DpopKey } from '../../tokens/dpop-key.js'
import { hasProof } from '../../tokens/grant-proof.js'
import { type TokenSet, withShare } from '../../tokens/token-set.js'
import { GrantCache } from '../grant-cache.js'
import {
  type IgnoredCopy,
  isOfLaterVersion,
  keyOf,
  textOf,
  textOfKey,
  tokensOf,
  unreadableText,
} from './copy-format.js'
import { isSealed, type Seal, seal } from './sealing.js'

/** Tells whether a copy without a proof shows by its tokens that it is of its grant, as far as this process knows. */
export type ProvesByTokens = (tokens: TokenSet) => boolean

/** Tells whether a token set holds tokens of a grant that has ended, or of a session that has left the grant. */
export type HoldsEndedTokens = (tokens: TokenSet) => boolean

/**
 * The token set as a session holds it: a text, opaque to the app. Copy it along when a session is regenerated, and
 * otherwise leave it to `req.tokens`.
 */
export type SessionCopy = string

/** Names the grant whose record is to be read, with the proof that opens it. */
export type GrantKey = Pick<TokenSet, 'grantId' | 'proof' | 'share'>

/** A copy that is in no session, but in the memory of this process: a reference to the tokens in the grant store. */
export class GrantReference {
  readonly tokens: TokenSet

  constructor(tokens: TokenSet) {
    this.tokens = tokens
  }
}

export interface TokenSetCodecOptions {
  /** Whether copies that are not sealed are read as well. Such a copy must have the proof of its grant. */
  readonly acceptsUnsealed?: boolean
  /** Names the token sets that are read, but never kept in memory. Default: none. */
  readonly holdsEndedTokens?: HoldsEndedTokens
  readonly maxOpened?: number
  /** Whether references to a grant store are read, since this process has one. Default: `true`. */
  readonly readsReferences?: boolean
}

/** A copy that was opened. */
interface OpenedCopy {
  readonly grantId: string
  readonly copy: SessionCopy
  readonly tokens: TokenSet
  /** Whether the copy is of the grant that it names: it was sealed, or it has the proof of the grant. */
  readonly isProven: boolean
}

/** How many copies are held opened, so that a request with a valid token opens none. */
const MAX_OPENED = 1_000

/**
 * Turns token sets into session copies of one client and back. Reading never throws: a value that is no copy of this client
 * gives `undefined`.
 *
 * A copy is a text, since session layers compare and copy a session value by value, several times for each request. With a
 * seal it is unreadable to others, and copies that are not sealed are refused.
 */
export class TokenSetCodec {
  /**
   * Whether the written copies are references to the tokens in the grant store. A copy that is read may be of either kind, since
   * a change of `keep` finds the earlier sessions.
   */
  readonly writesReferences: boolean = false
  readonly #audience: string
  readonly #seal: Seal | undefined
  readonly #provesByTokens: ProvesByTokens
  readonly #acceptsUnsealed: boolean
  readonly #holdsEndedTokens: HoldsEndedTokens
  readonly #readsReferences: boolean
  #written = new WeakMap<TokenSet, Map<string | undefined, SessionCopy>>()
  readonly #opened: GrantCache<OpenedCopy>
  /** The copy that was read last: a request reads the same copy several times. */
  #last: OpenedCopy | undefined
  /** The `removals` of the seal when it was used last. */
  #removals: number | undefined

  /** @param audience names the client and its authorization server; copies of another audience are refused */
  constructor(
    audience: string,
    seal?: Seal,
    provesByTokens: ProvesByTokens = () => true,
    {
      acceptsUnsealed = false,
      holdsEndedTokens = () => false,
      maxOpened = MAX_OPENED,
      readsReferences = true,
    }: TokenSetCodecOptions = {},
  ) {
    this.#acceptsUnsealed = acceptsUnsealed
    this.#audience = audience
    this.#seal = seal
    this.#provesByTokens = provesByTokens
    this.#holdsEndedTokens = holdsEndedTokens
    this.#opened = new GrantCache(maxOpened)
    this.#readsReferences = readsReferences
  }

  /** Returns the copy for a session of the grant: the session that `share` names. */
  write(tokens: TokenSet, share = tokens.share): SessionCopy {
    return this.#textOnce(tokens, share ?? '', () => withShare(withoutShares(tokens), share))
  }

  read(copy: unknown): TokenSet | undefined {
    if (typeof copy !== 'string') return copy instanceof GrantReference ? copy.tokens : undefined
    this.forgetRemovedKeys()
    const opened = this.#last?.copy === copy ? this.#last : this.#open(copy)
    if (!opened || (opened.tokens.isReference && !this.#readsReferences)) return undefined
    // A session of a grant with a proof has a share of it: this one was edited, or is a record out of the grant store.
    if (opened.tokens.share === undefined && hasProof(opened.tokens.grantId)) return undefined
    return opened.isProven || this.#provesByTokens(opened.tokens) ? opened.tokens : undefined
  }

  /** Returns the copy of a session that holds no tokens yet, and the key of its next login. It is always sealed. */
  writeKey(key: DpopKey): SessionCopy {
    if (!this.#seal)
      throw new ConfigurationError('A key must not lie in a session unsealed: give `encryptionKeys`.')
    return this.#seal.seal(textOfKey(key, this.#audience))
  }

  /** Returns the key of a session's next login, if {@link writeKey} has made the copy. */
  readKey(copy: unknown): DpopKey | undefined {
    const text = typeof copy === 'string' ? this.#seal?.open(copy) : undefined
    return text === undefined ? undefined : keyOf(text, this.#audience)
  }

  /** Says why a copy is not read; `undefined` if there is no copy, or if the copy is read. */
  ignored(copy: unknown): IgnoredCopy | undefined {
    if (copy === undefined || copy === null || this.read(copy)) return undefined
    if (typeof copy !== 'string') return { reason: 'malformed' }
    const text = this.#seal?.open(copy)
    if (text !== undefined) return keyOf(text, this.#audience) ? undefined : this.#ignoredText(text)
    if (isSealed(copy)) {
      if (!this.#seal) return { reason: 'sealed' }
      return { reason: this.#seal.names(copy) ? 'malformed' : 'unknown_key' }
    }
    const unsealed = this.#ignoredText(copy)
    if (!this.#seal || this.#acceptsUnsealed) return unsealed
    const isCopy = unsealed.reason !== 'malformed' || tokensOf(copy, this.#audience) !== undefined
    return isCopy ? { ...unsealed, reason: 'not_sealed' } : unsealed
  }

  #ignoredText(text: string): IgnoredCopy {
    const { grantId, isReference } = tokensOf(text, this.#audience) ?? {}
    if (grantId === undefined || this.#readsReferences || !isReference)
      return unreadableText(text, this.#audience)
    return { reason: 'other_keep', grantId }
  }

  #open(copy: SessionCopy): OpenedCopy | undefined {
    const opened = this.#opened.get(copy)
    if (opened) {
      this.#last = opened
      return opened
    }
    const text = this.#textIn(copy)
    const tokens = text === undefined ? undefined : tokensOf(text, this.#audience)
    return tokens && this.#keep(copy, tokens)
  }

  /** Keeps a copy opened, unless its tokens are to leave the memory. */
  #keep(copy: SessionCopy, tokens: TokenSet): OpenedCopy {
    const { grantId } = tokens
    const opened = { grantId, copy, tokens, isProven: this.#isSealed(copy) || isProofOf(tokens) }
    if (this.#holdsEndedTokens(tokens)) return opened
    this.#last = opened
    this.#opened.add(copy, opened)
    return opened
  }

  #isSealed(copy: SessionCopy): boolean {
    return this.#seal !== undefined && !this.isToBeSealed(copy)
  }

  /** Whether a copy is from before copies were sealed: it begins like JSON. */
  isToBeSealed(copy: unknown): boolean {
    return this.#acceptsUnsealed && typeof copy === 'string' && copy.startsWith('{')
  }

  /** Whether a copy leads to the newest tokens by itself: it is a reference, and need not be written again. */
  leadsToTokens(copy: unknown): boolean {
    if (copy instanceof GrantReference) return true
    return this.writesReferences && this.read(copy)?.isReference === true && !this.isToBeSealed(copy)
  }

  /** Whether a later version of this library has written a copy, or a record. Such a text must not be changed. */
  isOfLaterVersion(copy: unknown): boolean {
    if (typeof copy !== 'string') return false
    const text = this.#textIn(copy)
    return text !== undefined && isOfLaterVersion(text, this.#audience)
  }

  /** Returns the text of a copy; `undefined` if it is not sealed although it must be, or is sealed with an unknown key. */
  #textIn(copy: SessionCopy): string | undefined {
    return this.#seal ? (this.#seal.open(copy) ?? (this.#acceptsUnsealed ? copy : undefined)) : copy
  }

  /**
   * Whether tokens out of a session must be of the grant that they name: they have the proof of it, or were sealed. Any other
   * copy is of the version before, and proves itself by its tokens.
   */
  isProof(tokens: TokenSet): boolean {
    return isProofOf(tokens) || (this.#seal !== undefined && !this.#acceptsUnsealed)
  }

  /** Returns the token set as the grant store keeps it. */
  record(tokens: TokenSet): string {
    return this.#textOnce(tokens, undefined, () => withShare(tokens, undefined))
  }

  /** Seals each token set once, as sealing again gives another text, and a session is to keep the text that it has. */
  #textOnce(tokens: TokenSet, name: string | undefined, content: () => TokenSet): string {
    this.forgetRemovedKeys()
    const written = this.#written.get(tokens) ?? new Map<string | undefined, SessionCopy>()
    this.#written.set(tokens, written)
    const before = written.get(name)
    if (before !== undefined) return before
    const held = content()
    const text = this.textOf(held)
    const copy = this.#seal ? this.#seal.seal(text) : text
    written.set(name, copy)
    this.#keep(copy, held)
    return copy
  }

  /**
   * Reads a token set out of a grant store: sealed with the proof of its grant, where `keep` was `'store'`, or as a session copy.
   * A record that is not sealed must have the proof itself, if the grant has one. A record of another grant is not read: a writer to
   * the grant store could hand one user the tokens of another.
   */
  readRecord(of: GrantKey, record: string | undefined): TokenSet | undefined {
    if (record === undefined) return undefined
    this.forgetRemovedKeys()
    const copy = (this.#last?.copy === record ? this.#last : this.#open(record))?.tokens
    if (copy && !copy.isReference) {
      const isProven = this.#isSealed(record) || of.proof === undefined || copy.proof === of.proof
      return isProven && copy.grantId === of.grantId ? copy : undefined
    }
    const text = of.proof === undefined ? undefined : this.sealOf(of).open(record)
    const tokens = text === undefined ? undefined : tokensOf(text, this.#audience)
    return tokens && ownProperties({ ...tokens, ...(of.proof !== undefined && { proof: of.proof }) })
  }

  /**
   * If a key has been removed, forgets all opened and sealed copies: other processes cannot open copies with that key either.
   * Returns whether a key has been removed.
   */
  protected forgetRemovedKeys(): boolean {
    if (this.#seal?.removals === this.#removals) return false
    this.#removals = this.#seal?.removals
    this.#written = new WeakMap()
    this.#opened.clear()
    this.#last = undefined
    return true
  }

  /** Forgets the tokens of a grant that has ended, or of a session that has left it. */
  forgetEnded(grantId: string): void {
    this.#opened.forget(grantId, ({ tokens }) => this.#holdsEndedTokens(tokens))
    if (this.#last && !this.#opened.has(this.#last.copy)) this.#last = undefined
  }

  /** Returns the seal of a grant's token sets. It is used only at logins and refreshes, so it is not kept. */
  protected sealOf({ proof = '' }: GrantKey): Seal {
    return seal([proof], this.#audience)
  }

  protected textOf(tokens: TokenSet): string {
    return textOf(tokens, this.#audience, this.#seal !== undefined)
  }
}

/**
 * Returns the token set without the parts that only the record of the grant holds: the list of its sessions, its share key, and
 * the session of its jobs.
 */
function withoutShares(tokens: TokenSet): TokenSet {
  if ((tokens.shares ?? tokens.shareKey ?? tokens.jobSession) === undefined) return tokens
  const { shares: _, shareKey: __, jobSession: ___, ...rest } = tokens
  return ownProperties(rest)
}

/** Whether tokens have the proof of their grant. The key of a reference of the version before is no proof. */
function isProofOf({ grantId, isReference, proof }: TokenSet): boolean {
  return proof !== undefined && (!isReference || hasProof(grantId))
}

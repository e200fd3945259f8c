import { ADOPTED, adoptedGrantId, grantIdOf, hasProof } from '../grant-proof.js'
import { ownProperties } from '../own-properties.js'
import { type AccessToken, type TokenSet, withShare } from '../token-set.js'
import { type HoldsEndedTokens, OpenedCopies } from './opened-copies.js'
import { type Seal, seal } from './sealing.js'

/** The version of the formats below: of copies, and of references to what the grant store has. */
const VERSION = 2
/** The version before: its copies have no proof, but for those of adopted grants, and its references any key. */
const WITHOUT_PROOF = 1

/** Whether a copy without a proof shows by its tokens that it is of its grant, as far as this process knows. */
export type ProvesByTokens = (tokens: TokenSet) => boolean

/**
 * The token set as a session holds it: a text, opaque to the app. Copy it along when a session is regenerated, and
 * otherwise leave it to `req.tokens`.
 */
export type SessionCopy = string

/** Which grant's record is to be read, and what it is read with. */
export type GrantKey = Pick<TokenSet, 'grantId' | 'proof' | 'share'>

export interface SessionCopiesOptions {
  /** Whether what is not sealed is read all the same, if it has the proof of its grant. */
  readonly acceptsUnsealed?: boolean
  /** Which token sets are read, but never kept. Default: none. */
  readonly holdsEndedTokens?: HoldsEndedTokens
  readonly maxOpened?: number
}

/** How many copies are held opened, so that a request with a valid token opens none. */
const MAX_OPENED = 1_000

/**
 * Turns token sets into session copies of one client and back. Reading never throws: what is not a copy of ours is
 * `undefined`.
 *
 * A copy is a text, since session layers go through a session value by value, several times for each request. With a
 * seal it is unreadable to others, and those that are not sealed are refused.
 */
export class SessionCopies {
  /**
   * Whether what is written to the session leads to the tokens, rather than being a copy of them. What is read may be either
   * one: a change of `keep` finds the sessions of before.
   */
  readonly isReference: boolean = false
  readonly #audience: string
  readonly #seal: Seal | undefined
  readonly #provesByTokens: ProvesByTokens
  readonly #acceptsUnsealed: boolean
  readonly #written = new WeakMap<TokenSet, Map<string | undefined, SessionCopy>>()
  readonly #opened: OpenedCopies

  /** @param audience names the client and its authorization server; copies of another audience are refused */
  constructor(
    audience: string,
    seal?: Seal,
    provesByTokens: ProvesByTokens = () => true,
    { acceptsUnsealed = false, holdsEndedTokens, maxOpened = MAX_OPENED }: SessionCopiesOptions = {},
  ) {
    this.#acceptsUnsealed = acceptsUnsealed
    this.#audience = audience
    this.#seal = seal
    this.#provesByTokens = provesByTokens
    // What is not sealed is as quick to read as to find.
    this.#opened = new OpenedCopies(seal ? maxOpened : 0, holdsEndedTokens)
  }

  /** The copy of a session of the grant: the one that `share` names. */
  write(tokens: TokenSet, share = tokens.share): SessionCopy {
    return this.#textOnce(tokens, share ?? '', () => withShare(withoutShares(tokens), share))
  }

  read(copy: unknown): TokenSet | undefined {
    if (typeof copy !== 'string') return undefined
    const tokens = this.#readAny(copy)
    if (!tokens) return undefined
    const isProof = this.#isSealed(copy) || isProofOf(tokens)
    return isProof || this.#provesByTokens(tokens) ? tokens : undefined
  }

  #isSealed(copy: SessionCopy): boolean {
    return this.#seal !== undefined && !this.isToBeSealed(copy)
  }

  /** Whether a copy is from before copies were sealed: it is not, as it begins like JSON. */
  isToBeSealed(copy: unknown): boolean {
    return this.#acceptsUnsealed && typeof copy === 'string' && copy.startsWith('{')
  }

  /** Whether a later version of this library has written a copy, or a record: it is to be left alone. */
  isOfLaterVersion(copy: unknown): boolean {
    if (typeof copy !== 'string') return false
    const text = this.#textIn(copy)
    const content = text === undefined ? undefined : parsed(text)
    if (!content) return false
    const { audience, version } = content
    return audience === this.#audience && Number.isSafeInteger(version) && (version as number) > VERSION
  }

  /** The text of a copy; `undefined` of one that is not sealed although it must be, or by another key. */
  #textIn(copy: SessionCopy): string | undefined {
    return this.#seal ? (this.#seal.open(copy) ?? (this.#acceptsUnsealed ? copy : undefined)) : copy
  }

  /**
   * Whether what was read from a session must be of the grant that it names: it has the proof of it, or was sealed. What is
   * neither is of the version before, and proves itself by its tokens.
   */
  isProof(tokens: TokenSet): boolean {
    return isProofOf(tokens) || (this.#seal !== undefined && !this.#acceptsUnsealed)
  }

  /** The token set as the grant store keeps it. */
  record(tokens: TokenSet): string {
    return this.#textOnce(tokens, undefined, () => withShare(tokens, undefined))
  }

  /** Sealing the same twice gives two texts, and a session is to keep the one that it has. */
  #textOnce(tokens: TokenSet, name: string | undefined, content: () => TokenSet): string {
    const written = this.#written.get(tokens) ?? new Map<string | undefined, SessionCopy>()
    this.#written.set(tokens, written)
    const before = written.get(name)
    if (before !== undefined) return before
    const held = content()
    const text = this.textOf(held)
    const copy = this.#seal ? this.#seal.seal(text) : text
    written.set(name, copy)
    if (this.#seal) this.#opened.keep(copy, held)
    return copy
  }

  /**
   * A token set out of a grant store: sealed with the proof of its grant, where `keep` was `'store'`, or as a session copy. One
   * that is not sealed at all must have the proof itself, where the grant has one.
   */
  readRecord(of: GrantKey, record: string | undefined): TokenSet | undefined {
    if (record === undefined) return undefined
    const copy = this.#readAny(record)
    if (copy && !copy.isElsewhere) {
      const isProven = this.#isSealed(record) || of.proof === undefined || copy.proof === of.proof
      return isProven ? copy : undefined
    }
    const text = of.proof === undefined ? undefined : this.sealOf(of).open(record)
    const tokens = text === undefined ? undefined : this.parse(text)
    return tokens && ownProperties({ ...tokens, ...(of.proof !== undefined && { proof: of.proof }) })
  }

  /** Forgets the tokens of a grant that is over, or of a session that has left it. */
  forgetEnded(grantId: string): void {
    this.#opened.forgetEnded(grantId)
  }

  /** What a grant's token sets are sealed with. It is used at logins and refreshes alone, so none is kept. */
  protected sealOf({ proof = '' }: GrantKey): Seal {
    return seal([proof], this.#audience)
  }

  #readAny(copy: SessionCopy): TokenSet | undefined {
    const opened = this.#opened.get(copy)
    if (opened) return opened
    const text = this.#textIn(copy)
    const tokens = text === undefined ? undefined : this.parse(text)
    if (tokens) this.#opened.keep(copy, tokens)
    return tokens
  }

  protected textOf(tokens: TokenSet): string {
    const version = hasProof(tokens.grantId) ? VERSION : WITHOUT_PROOF
    // The proof of an adopted grant may be long, and what is sealed needs none. A key of the version before is no proof.
    const isNeeded = version === VERSION || (!this.#seal && tokens.grantId.startsWith(ADOPTED))
    const proof = isNeeded ? tokens.proof : undefined
    return JSON.stringify({ version, audience: this.#audience, ...tokens, proof })
  }

  protected parse(copy: string): TokenSet | undefined {
    const content = parsed(copy)
    if (content?.audience !== this.#audience) return undefined
    if (content.key !== undefined) return referenceOf(content)
    const { version, grantId, proof, share, shares, earlier, revision } = content
    const { refreshToken, idToken, subject, accessTokens } = content
    if (typeof grantId !== 'string' || grantId === '' || !isTextOrAbsent(proof)) return undefined
    if (!this.#isOfGrant(version, grantId, proof)) return undefined
    if (!Number.isSafeInteger(revision) || (revision as number) < 1) return undefined
    if (![refreshToken, idToken, subject].every(isTextOrAbsent)) return undefined
    const held: unknown[] = Array.isArray(accessTokens) ? accessTokens.map(ownRecord) : [undefined]
    if (!held.every(isAccessToken)) return undefined
    if (!isTextOrAbsent(share) || !isTextsOrAbsent(shares) || !isTextsOrAbsent(earlier)) return undefined
    return ownProperties({
      grantId,
      ...(share !== undefined && { share }),
      ...(shares !== undefined && { shares }),
      ...(earlier !== undefined && { earlier }),
      ...(proof !== undefined && { proof }),
      revision: revision as number,
      accessTokens: held,
      ...(isText(refreshToken) && { refreshToken }),
      ...(isText(idToken) && { idToken }),
      ...(isText(subject) && { subject }),
    })
  }

  /** Whether the version of a copy is known, and what it has for a proof is one. */
  #isOfGrant(version: unknown, grantId: string, proof: string | undefined): boolean {
    if (version === VERSION) return proof !== undefined && grantId === grantIdOf(proof)
    if (version !== WITHOUT_PROOF || hasProof(grantId)) return false
    if (proof === undefined) return true
    return grantId.startsWith(ADOPTED) && grantId === adoptedGrantId(this.#audience, proof)
  }
}

/** The sessions of a grant are listed in its record alone. */
function withoutShares(tokens: TokenSet): TokenSet {
  if (tokens.shares === undefined) return tokens
  const { shares: _, ...rest } = tokens
  return ownProperties(rest)
}

/** Whether tokens have the proof of their grant. The key of a reference of the version before is none. */
function isProofOf({ grantId, isElsewhere, proof }: TokenSet): boolean {
  return proof !== undefined && (hasProof(grantId) || !isElsewhere)
}

/** What a session holds that leads to the tokens: the id of the grant, and its proof, which is the key of its records. */
function referenceOf({ version, grantId, key, share }: Record<string, unknown>): TokenSet | undefined {
  if (!isText(grantId) || !isText(key) || !isTextOrAbsent(share)) return undefined
  const isProven = version === VERSION && grantId === grantIdOf(key)
  if (!isProven && (version !== WITHOUT_PROOF || hasProof(grantId))) return undefined
  const ofShare = share !== undefined && { share }
  return ownProperties({
    grantId,
    proof: key,
    ...ofShare,
    revision: 0,
    accessTokens: [],
    isElsewhere: true as const,
  })
}

/** The content of a text that should be a JSON object. */
function parsed(copy: string): Record<string, unknown> | undefined {
  try {
    const content: unknown = JSON.parse(copy)
    return isRecord(content) ? ownProperties(content) : undefined
  } catch {
    return undefined
  }
}

const ownRecord = (value: unknown) => (isRecord(value) ? ownProperties(value) : undefined)

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

function isTextOrAbsent(value: unknown): value is string | undefined {
  return value === undefined || isText(value)
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}

function isTextsOrAbsent(value: unknown): value is string[] | undefined {
  if (value === undefined) return true
  return Array.isArray(value) && value.every((text) => typeof text === 'string')
}

function isAccessToken(value: unknown): value is AccessToken {
  return (
    isRecord(value) &&
    typeof value.token === 'string' &&
    value.token !== '' &&
    typeof value.tokenType === 'string' &&
    value.tokenType !== '' &&
    isTextOrAbsent(value.scope) &&
    isTextOrAbsent(value.requestedScope) &&
    isTextOrAbsent(value.resource) &&
    isTextOrAbsent(value.audience) &&
    Number.isFinite(value.obtainedAt) &&
    Number.isFinite(value.expiresAt)
  )
}

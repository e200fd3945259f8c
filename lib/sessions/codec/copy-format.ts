import { ownProperties, ownValue, parseJsonObject } from '../../options/own-properties.js'
import type { AccessToken } from '../../tokens/access-token.js'
import { type DpopKey, dpopKeyIn } from '../../tokens/dpop-key.js'
import type { IgnoredReason } from '../../tokens/events.js'
import { ADOPTED, adoptedGrantId, grantIdOf, hasProof } from '../../tokens/grant-proof.js'
import type { TokenSet } from '../../tokens/token-set.js'

/** Why a session copy cannot be used, and the grant that it names, if it can be read. */
export interface IgnoredCopy {
  readonly reason: IgnoredReason
  readonly grantId?: string
}

/** The version of the formats below: of copies, and of references to the tokens in the grant store. */
export const VERSION = 2
/** The version before. Its copies have no proof, except for those of adopted grants, and its references have any key. */
export const WITHOUT_PROOF = 1

/** Returns the text of a token set. `isSealed` says whether the text will be sealed. */
export function textOf(tokens: TokenSet, audience: string, isSealed: boolean): string {
  const version = hasProof(tokens.grantId) ? VERSION : WITHOUT_PROOF
  // The proof of an adopted grant may be long, and a sealed text needs none. The key of an old reference is no proof.
  const isNeeded = version === VERSION || (!isSealed && tokens.grantId.startsWith(ADOPTED))
  const proof = isNeeded ? tokens.proof : undefined
  const { accessTokens } = tokens
  const separate = accessTokens.length > 1 ? separated(accessTokens) : undefined
  return JSON.stringify({ version, audience, ...tokens, ...separate, proof })
}

/**
 * Separates the tokens of exchanges from the other access tokens, if there are any. A version without exchanges would take the
 * first for the login's own token, so it does not find them.
 */
function separated(
  tokens: readonly AccessToken[],
): { readonly accessTokens: AccessToken[]; readonly exchanged: AccessToken[] } | undefined {
  const exchanged = tokens.filter(({ exchange }) => exchange !== undefined)
  if (exchanged.length === 0) return undefined
  return { accessTokens: tokens.filter(({ exchange }) => exchange === undefined), exchanged }
}

const isText = (value: unknown): value is string => typeof value === 'string' && value !== ''
const isTime = (value: unknown) => Number.isFinite(value)
const isCount = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 1
const areTexts = (value: unknown) => Array.isArray(value) && value.every((text) => typeof text === 'string')

const isJobSession = (value: unknown) =>
  typeof value === 'object' && isText(ownValue(value, 'sid')) && areTexts([ownValue(value, 'share') ?? ''])

/** The fields of a format: those that must be there, and those that may. */
type Fields<T> = { readonly [Name in keyof T]-?: readonly ['must' | 'may', (value: unknown) => boolean] }

const ACCESS_TOKEN: Fields<AccessToken> = {
  token: ['must', isText],
  tokenType: ['must', isText],
  scope: ['may', isText],
  requestedScope: ['may', isText],
  resource: ['may', isText],
  audience: ['may', isText],
  exchange: ['may', isText],
  obtainedAt: ['must', isTime],
  expiresAt: ['must', isTime],
}

const TOKEN_SET: Fields<Omit<TokenSet, 'isReference'>> = {
  grantId: ['must', isText],
  share: ['may', isText],
  shares: ['may', areTexts],
  shareKey: ['may', isText],
  jobSession: ['may', isJobSession],
  earlier: ['may', areTexts],
  logins: ['may', isCount],
  loginIssuedAt: ['may', isTime],
  proof: ['may', isText],
  revision: ['must', isCount],
  accessTokens: ['must', Array.isArray],
  refreshToken: ['may', isText],
  refreshExpiresAt: ['may', isTime],
  sessionExpiresAt: ['may', isTime],
  loggedInAt: ['may', isTime],
  idToken: ['may', isText],
  subject: ['may', isText],
  dpopKey: ['may', (value) => dpopKeyIn(value) !== undefined],
}

/** Returns the fields of a format in an object, which inherit nothing; `undefined` if the object has another format. */
function fieldsIn<T>(fields: Fields<T>, value: unknown): T | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const found = { __proto__: null } as Record<string, unknown>
  for (const [name, [need, isValid]] of Object.entries<Fields<T>[keyof T]>(fields)) {
    const content = Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined
    if (content === undefined && need === 'may') continue
    if (!isValid(content)) return undefined
    found[name] = content
  }
  return found as T
}

/** Returns the token set of a text; `undefined` if the text is of another audience, or not valid. */
export function tokensOf(text: string, expectedAudience: string): TokenSet | undefined {
  const content = parseJsonObject(text)
  if (content?.audience !== expectedAudience) return undefined
  if (content.key !== undefined) return referenceOf(content)
  const tokens = fieldsIn(TOKEN_SET, content)
  const held = Array.isArray(content.exchanged)
    ? tokens?.accessTokens.concat(content.exchanged)
    : tokens?.accessTokens
  const accessTokens = held?.map((each) => fieldsIn(ACCESS_TOKEN, each))
  if (!tokens || accessTokens?.includes(undefined)) return undefined
  if (!isOfGrant(expectedAudience, content.version, tokens.grantId, tokens.proof)) return undefined
  const dpopKey = tokens.dpopKey && dpopKeyIn(tokens.dpopKey)
  return Object.assign(tokens, { accessTokens, ...(dpopKey && { dpopKey }) })
}

/** Returns the text with which a session holds a key until its next login. */
export function textOfKey(key: DpopKey, audience: string): string {
  return JSON.stringify({ version: VERSION, audience, keyOfNextLogin: key })
}

/** Returns the key in a text of {@link textOfKey}; `undefined` for any other text. */
export function keyOf(text: string, expectedAudience: string): DpopKey | undefined {
  const content = parseJsonObject(text)
  return content?.audience === expectedAudience ? dpopKeyIn(content.keyOfNextLogin) : undefined
}

/** Whether a later version of this library has written a text of this audience. */
export function isOfLaterVersion(text: string, expectedAudience: string): boolean {
  const { audience, version } = parseJsonObject(text) ?? {}
  return audience === expectedAudience && Number.isSafeInteger(version) && (version as number) > VERSION
}

/** Matches the ids of grants that events may show: digests, also of adopted grants. */
const SHOWN_ID = /^(?:adopted-)?[\w-]{43}$/

/** Says why the text of a copy is not used, and which grant it names. The text proves nothing. */
export function unreadableText(text: string, expectedAudience: string): IgnoredCopy {
  const { audience, grantId } = parseJsonObject(text) ?? {}
  const named = typeof grantId === 'string' && SHOWN_ID.test(grantId) && { grantId }
  if (typeof audience !== 'string') return { reason: 'malformed' }
  if (audience !== expectedAudience) return { reason: 'other_client', ...named }
  if (isOfLaterVersion(text, expectedAudience)) return { reason: 'other_version', ...named }
  return { reason: 'malformed', ...named }
}

/** Whether the version is known, and the proof, if there is one, is the proof of the grant. */
function isOfGrant(audience: string, version: unknown, grantId: string, proof: string | undefined): boolean {
  if (version === VERSION) return proof !== undefined && grantId === grantIdOf(proof)
  if (version !== WITHOUT_PROOF || hasProof(grantId)) return false
  if (proof === undefined) return true
  return grantId.startsWith(ADOPTED) && grantId === adoptedGrantId(audience, proof)
}

/** Returns a reference to the tokens in the grant store: the id of the grant, and its proof, which is the key of its records. */
function referenceOf({ version, grantId, key, share }: Record<string, unknown>): TokenSet | undefined {
  if (!isText(grantId) || !isText(key) || (share !== undefined && !isText(share))) return undefined
  const isProven = version === VERSION && grantId === grantIdOf(key)
  if (!isProven && (version !== WITHOUT_PROOF || hasProof(grantId))) return undefined
  const ofShare = share !== undefined && { share }
  return ownProperties({
    grantId,
    proof: key,
    ...ofShare,
    revision: 0,
    accessTokens: [],
    isReference: true as const,
  })
}

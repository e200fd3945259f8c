import { createHash, randomBytes } from 'node:crypto'
import { ownProperties } from './own-properties.js'
import type { TokenSet } from './token-set.js'

/*
 * The id of a grant stands in events, in logs and in the names of Redis keys, so the id must give access to nothing. It is a
 * digest of a secret, the proof, which only the sessions and the record of the grant hold. A copy that is read from a session
 * brings the proof, and the library makes the id from it. So there is nothing to compare, and a copy cannot name the grant of
 * another user. This costs one digest for each copy that is opened.
 */

/** What the ids of adopted grants begin with. */
export const ADOPTED = 'adopted-'
/** The ids that are digests of a proof. Those of grants from before there were proofs are UUIDs. */
const DIGEST = /^[\w-]{43}$/

export function randomProof(): string {
  return randomBytes(32).toString('base64url')
}

/**
 * The proof of the grant that a login begins with a refresh token: every login that is handed the same one finds the same
 * grant. After its end the next generation begins.
 */
export function proofOf(audience: string, refreshToken: string, generation: number): string {
  return digestOf(`session-token-manager proof\n${audience}\n${generation}\n${refreshToken}`)
}

export function randomShare(): string {
  return randomBytes(8).toString('base64url')
}

/** What tells the sessions of a grant apart: its id, and the share of the session. */
export function identityOf({ grantId, share }: Pick<TokenSet, 'grantId' | 'share'>): string {
  return share === undefined ? grantId : `${grantId}.${share}`
}

/** The grant and the share that an identity names. */
export function partsOf(identity: string): { readonly grantId: string; readonly share?: string } {
  const [grantId = '', share] = identity.split('.')
  return hasProof(grantId) && share !== undefined ? { grantId, share } : ownProperties({ grantId: identity })
}

/** The id of the grant that a proof is of. */
export function grantIdOf(proof: string): string {
  return digestOf(`session-token-manager grant\n${proof}`)
}

/** The id of the grant that tokens are adopted into, made from the token that is its proof. */
export function adoptedGrantId(audience: string, proof: string): string {
  return `${ADOPTED}${digestOf(`${audience}\n${proof}`)}`
}

/** Whether the id was made from a proof. */
export function hasProof(grantId: string): boolean {
  return DIGEST.test(grantId)
}

/** How many refresh tokens are known again after they were used. */
const MAX_EARLIER = 8

/**
 * Whether a token set without a proof, from before there were proofs, is of the grant that another one is of: they have a
 * token in common, or had. One that holds no token any more gives nothing away.
 */
export function sharesToken(tokens: TokenSet, other: TokenSet): boolean {
  if (other.refreshToken === undefined && other.accessTokens.length === 0) return true
  const had = new Set([...refreshTokensOf(other), ...other.accessTokens.map(({ token }) => token)])
  const has = [...refreshTokensOf(tokens), ...tokens.accessTokens.map(({ token }) => token)]
  return has.some((token) => had.has(token))
}

/** The token set, with what its grant is known again by after the refresh tokens before it were used. */
export function remembering(tokens: TokenSet, before: TokenSet): TokenSet {
  if (tokens.proof !== undefined || before.refreshToken === tokens.refreshToken) return tokens
  const earlier = refreshTokensOf(before).slice(-MAX_EARLIER)
  return ownProperties({ ...tokens, ...(earlier.length > 0 && { earlier }) })
}

/** Digests of the refresh tokens that a token set tells of. */
function refreshTokensOf({ earlier = [], refreshToken }: TokenSet): string[] {
  return refreshToken === undefined ? [...earlier] : [...earlier, digestOf(refreshToken)]
}

export function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('base64url')
}

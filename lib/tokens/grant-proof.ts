import { createHash, createHmac, randomBytes } from 'node:crypto'
import { ownProperties } from '../options/own-properties.js'
import type { TokenSet } from './token-set.js'

/*
 * The id of a grant stands in events, in logs and in the names of Redis keys, so the id must give access to nothing. It is a
 * digest of a secret, the proof, which only the sessions and the record of the grant hold. A copy that is read from a session
 * brings the proof, and the library makes the id from it. So there is nothing to compare, and a copy cannot name the grant of
 * another user. This costs one digest for each copy that is opened.
 */

/** The prefix of the ids of adopted grants. */
export const ADOPTED = 'adopted-'
/** Matches the ids that are digests of a proof. A grant from a version without proofs has a UUID. */
const DIGEST = /^[\w-]{43}$/

export function randomProof(): string {
  return randomBytes(32).toString('base64url')
}

/**
 * Returns the proof of the grant that a login starts with a refresh token. Every login with the same refresh token finds the same
 * grant. After the end of that grant, the next generation is another grant.
 */
export function proofOf(audience: string, refreshToken: string, generation: number): string {
  return digestOf(`session-token-manager proof\n${audience}\n${generation}\n${refreshToken}`)
}

/**
 * Returns the secret that the shares of a grant are made with. Only the record of the grant holds it, so an edited session cannot
 * forge a share. Like the proof, it is the same for every login with the same refresh token.
 */
export function shareKeyOf(audience: string, refreshToken: string, generation: number): string {
  return digestOf(`session-token-manager share key\n${audience}\n${generation}\n${refreshToken}`)
}

/** The length of the random part of a share. */
const SHARE_ID_LENGTH = 11

/** Returns a share for another session of a grant: a random id, and a code that is made from the id and the share key. */
export function newShare(shareKey: string): string {
  return shareOf(shareKey, randomBytes(8).toString('base64url'))
}

export function isShareOf(shareKey: string, share: string): boolean {
  // Digests are compared, so the duration of the comparison reveals nothing about the code.
  return digestOf(share) === digestOf(shareOf(shareKey, share.slice(0, SHARE_ID_LENGTH)))
}

function shareOf(shareKey: string, id: string): string {
  return id + createHmac('sha256', shareKey).update(id).digest('base64url').slice(0, 22)
}

/** A session's share of a grant; without a share, the grant as a whole. */
export type GrantIdentity = Pick<TokenSet, 'grantId' | 'share'>

/** Names a grant as a whole. */
export function wholeGrant(grantId: string): GrantIdentity {
  return { __proto__: null, grantId } as GrantIdentity
}

/** Names a session's share of a grant. */
export function identityOf({ grantId, share }: GrantIdentity): string {
  return share === undefined ? grantId : `${grantId}.${share}`
}

/** Returns the grant and the share that an identity names. */
export function partsOf(identity: string): GrantIdentity {
  const [grantId = '', share] = identity.split('.')
  return hasProof(grantId) && share !== undefined ? { grantId, share } : ownProperties({ grantId: identity })
}

/** Returns the id of the grant that a proof belongs to. */
export function grantIdOf(proof: string): string {
  return digestOf(`session-token-manager grant\n${proof}`)
}

/** Returns the id of an adopted grant, made from the token that is its proof. */
export function adoptedGrantId(audience: string, proof: string): string {
  return `${ADOPTED}${digestOf(`${audience}\n${proof}`)}`
}

/** Whether the id was made from a proof. */
export function hasProof(grantId: string): boolean {
  return DIGEST.test(grantId)
}

/** How many digests of used refresh tokens a token set holds. */
const MAX_EARLIER = 8

/**
 * Whether a token set without a proof, from a version without proofs, belongs to the same grant as another token set: they have,
 * or had, a token in common. If the other set holds no token, the result is true, since that set has no token to protect.
 */
export function sharesToken(tokens: TokenSet, other: TokenSet): boolean {
  if (other.refreshToken === undefined && other.accessTokens.length === 0) return true
  const had = new Set([...refreshTokensOf(other), ...other.accessTokens.map(({ token }) => token)])
  const has = [...refreshTokensOf(tokens), ...tokens.accessTokens.map(({ token }) => token)]
  return has.some((token) => had.has(token))
}

/** Returns the token set with digests of the earlier refresh tokens, by which an older copy of a grant without a proof is recognized. */
export function withEarlierTokens(tokens: TokenSet, before: TokenSet): TokenSet {
  if (before.refreshToken === tokens.refreshToken) return tokens
  const earlier = refreshTokensOf(before).slice(-MAX_EARLIER)
  return ownProperties({ ...tokens, ...(earlier.length > 0 && { earlier }) })
}

/** Returns the digests of the refresh tokens that a token set has and had. */
function refreshTokensOf({ earlier = [], refreshToken }: TokenSet): string[] {
  return refreshToken === undefined ? [...earlier] : [...earlier, digestOf(refreshToken)]
}

export function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('base64url')
}

import { ownProperties } from '../options/own-properties.js'
import { type AccessToken, isOfLogin, keyOf } from './access-token.js'
import { type DpopKey, secretPartsOf } from './dpop-key.js'

/** All tokens that are held for a grant. Of two sets of one grant, the one with the higher revision is newer. */
export interface TokenSet {
  /** Names the grant in events and in the grant store. It is not a secret and proves nothing. */
  readonly grantId: string
  /** A secret. `grantId` is a digest of it, see grant-proof.ts. Only the sessions and the record of the grant hold it. */
  readonly proof?: string
  /**
   * The share of the session that has this copy, see grant-shares.ts. The property is absent if the set is not the copy of a
   * session.
   */
  readonly share?: string
  /**
   * The shares of all sessions of the grant. Only the record of the grant has them, and the sets that were learned from the
   * record.
   */
  readonly shares?: readonly string[]
  /**
   * The secret with which this library signs the shares of the grant, see grant-proof.ts. No session holds it, only the record of
   * the grant: so an edited session cannot forge a share.
   */
  readonly shareKey?: string
  /**
   * The session in which the last offline reference was made: the tokens that a job refreshes are stored there as well. Only the
   * record of the grant has it.
   */
  readonly jobSession?: JobSession
  /** The digests of earlier refresh tokens, of a grant from a version without proofs. */
  readonly earlier?: readonly string[]
  /**
   * How many later logins have brought the refresh token of the grant again, together with a new access token. The property is
   * absent if there were no such logins.
   */
  readonly logins?: number
  /** When the ID token of the login was issued, by the clock of the authorization server, in milliseconds since the epoch. */
  readonly loginIssuedAt?: number
  /** The revision. It grows at each change. */
  readonly revision: number
  readonly refreshToken?: string
  readonly idToken?: string
  /**
   * When the refresh token expires, in milliseconds since the epoch. The property is absent if the time is not known, or if the
   * refresh token does not expire.
   */
  readonly refreshExpiresAt?: number
  /**
   * When the session at the authorization server expires (`session_expiry`), in milliseconds since the epoch: then the login is
   * over.
   */
  readonly sessionExpiresAt?: number
  /** When the user logged in, in milliseconds since the epoch. The property is absent in tokens of earlier versions. */
  readonly loggedInAt?: number
  /** The subject of the last readable ID token, kept while `idToken` is encrypted: the next ID token must have the same subject. */
  readonly subject?: string
  /** The key that the tokens of the grant are bound to (RFC 9449). It lives and ends with the grant. */
  readonly dpopKey?: DpopKey
  readonly accessTokens: readonly AccessToken[]
  /** Set if the session holds only a reference. The grant store has the tokens. */
  readonly isReference?: true
}

/** A session in a store, and its share of the grant. The id is a secret. */
export interface JobSession {
  readonly sid: string
  readonly share?: string
}

/** Returns the token set with a new refresh token, and the key that it may be bound to. The other tokens stay the same. */
export function withRefreshToken(
  tokens: TokenSet,
  { dpopKey, refreshToken }: { readonly refreshToken: string; readonly dpopKey?: DpopKey },
): TokenSet {
  const { refreshExpiresAt: _, ...rest } = tokens
  return ownProperties({
    ...rest,
    refreshToken,
    revision: tokens.revision + 1,
    ...(dpopKey !== undefined && { dpopKey }),
  })
}

/** Returns the token set without its refresh token. Its access tokens are served until they expire. */
export function withoutRefreshToken(tokens: TokenSet): TokenSet {
  const { refreshToken: _, refreshExpiresAt: __, ...rest } = tokens
  return ownProperties({ ...rest, revision: tokens.revision + 1 })
}

/** Returns the token set of a grant that the authorization server has ended: without tokens, and with a higher revision. */
export function deadTokenSet(tokens: TokenSet): TokenSet {
  const { grantId, proof, revision } = tokens
  return ownProperties({
    grantId,
    ...(proof !== undefined && { proof }),
    revision: revision + 1,
    accessTokens: [],
  })
}

/** Whether a token set holds no token and is not a reference. */
export function isDead({ accessTokens, idToken, isReference, refreshToken }: TokenSet): boolean {
  const isEmpty = accessTokens.length === 0 && refreshToken === undefined && idToken === undefined
  return isEmpty && !isReference
}

/**
 * Returns the tokens of a grant after another login with the same refresh token, whose session gets a share of the grant. The
 * access token of the login replaces all access tokens of the grant: the login may have met a requirement of an API or of the
 * server.
 */
export function joinedTokens(tokens: TokenSet, login: TokenSet): TokenSet {
  const { logins = 0, shares = [] } = tokens
  const share = login.share!
  const [fresh] = login.accessTokens
  const held = tokens.accessTokens.find((it) => isOfLogin(it))
  // If the refresh token of the login has been used since, the login's access token is older than the grant's.
  const isUsable =
    fresh !== undefined && tokens.refreshToken === login.refreshToken && fresh.expiresAt > fresh.obtainedAt
  const isOther = isUsable && fresh.token !== held?.token
  const isFresh = isOther || (isUsable && fresh.expiresAt > (held?.expiresAt ?? 0))
  const others = isOther ? [] : tokens.accessTokens.filter((it) => it !== held)
  return ownProperties({
    ...tokens,
    share,
    shares: shares.includes(share) ? shares : [...shares, share],
    revision: tokens.revision + 1,
    ...(isOther && { logins: logins + 1, ...lifetimesOf(login) }),
    ...(isFresh && { accessTokens: [fresh, ...others] }),
    ...(isFresh && login.idToken !== undefined && { idToken: login.idToken }),
    ...(isFresh && login.loginIssuedAt !== undefined && { loginIssuedAt: login.loginIssuedAt }),
    ...(isFresh && login.dpopKey !== undefined && { dpopKey: login.dpopKey }),
  })
}

/** Returns the times that limit a login. A time that the login does not name does not apply any more. */
function lifetimesOf({
  loggedInAt,
  refreshExpiresAt,
  sessionExpiresAt,
}: TokenSet): Pick<TokenSet, 'loggedInAt' | 'refreshExpiresAt' | 'sessionExpiresAt'> {
  const times = { loggedInAt, refreshExpiresAt, sessionExpiresAt }
  return times as Pick<TokenSet, keyof typeof times>
}

/** Returns the token set with the share of a session, or without a share. */
export function withShare(tokens: TokenSet, share: string | undefined): TokenSet {
  if (tokens.share === share) return tokens
  const { share: _, ...rest } = tokens
  return ownProperties(share === undefined ? rest : { ...rest, share })
}

/**
 * Returns the token set with the facts about sessions of another token set of its grant: those that only the record of the grant
 * holds, and the number of logins.
 */
export function withSharesOf(tokens: TokenSet, other: TokenSet | undefined): TokenSet {
  const shares = other?.shares ?? tokens.shares
  const shareKey = other?.shareKey ?? tokens.shareKey
  const jobSession = other?.jobSession ?? tokens.jobSession
  const logins = Math.max(other?.logins ?? 0, tokens.logins ?? 0)
  const isSame = tokens.shares === shares && tokens.shareKey === shareKey && tokens.jobSession === jobSession
  if (isSame && (tokens.logins ?? 0) === logins) return tokens
  return ownProperties({
    ...tokens,
    ...(shares && { shares }),
    ...(shareKey !== undefined && { shareKey }),
    ...(jobSession && { jobSession }),
    ...(logins > 0 && { logins }),
  })
}

/**
 * Returns a token set with the newest access token of another one of its grant, unless the tokens are bound to other keys. A dead
 * token set stays dead.
 */
export function withAccessTokenOf(
  tokens: TokenSet,
  { accessTokens: [fresh], dpopKey, proof }: TokenSet,
): TokenSet {
  if (!fresh || isDead(tokens) || dpopKey?.d !== tokens.dpopKey?.d) return tokens
  const others = tokens.accessTokens.filter((token) => keyOf(token) !== keyOf(fresh))
  return ownProperties({
    ...tokens,
    ...(proof !== undefined && { proof }),
    accessTokens: [fresh, ...others],
  })
}

/** Returns the newer of two token sets of one grant, and `tokens` if `other` is of another grant. */
export function newest(tokens: TokenSet, other: TokenSet | undefined): TokenSet {
  if (other?.grantId !== tokens.grantId) return tokens
  // Of two sets with one revision, the set without a refresh token is about the previous refresh token; the other has a newer one.
  const isAlive = tokens.refreshToken === undefined && other.refreshToken !== undefined
  return other.revision > tokens.revision || (other.revision === tokens.revision && isAlive) ? other : tokens
}

/** Returns every string in a token set that must not be shown. */
export function secretsOf(tokens: TokenSet): string[] {
  const { accessTokens, dpopKey, idToken, jobSession, proof, refreshToken, shareKey } = tokens
  const ofKey = dpopKey ? secretPartsOf(dpopKey) : []
  const secrets = [
    refreshToken,
    idToken,
    ...accessTokens.map(({ token }) => token),
    proof,
    jobSession?.sid,
    shareKey,
    ...ofKey,
  ]
  return secrets.filter((secret) => secret !== undefined)
}

import { ownProperties } from './own-properties.js'

/** What a caller needs of an access token. An empty need is the token that the login brought. */
export interface TokenNeed {
  /** Scopes the token must cover, separated by spaces (RFC 6749 §3.3). */
  scope?: string
  /** The API the token is for, an absolute URI (RFC 8707). */
  resource?: string
  /** The API the token is for, by the name that the authorization server has for it, where that is not a `resource`. */
  audience?: string
  /** For how long the token must still be valid, in milliseconds. Default: the `leewayMs` of the middleware. */
  minValidityMs?: number
  /** An access token that an API refused. Asks for one that is not this one, and for nothing if there is one. */
  rejected?: string
}

/** One access token, with what is known of it. */
export interface AccessToken {
  readonly token: string
  /** `Bearer` unless the authorization server said otherwise. */
  readonly tokenType: string
  /** What the token was granted for, when known, separated by spaces. */
  readonly scope?: string
  /** The scope that was asked for when the token was obtained; absent for the login's own token. */
  readonly requestedScope?: string
  /** The resource that was asked for when the token was obtained (RFC 8707). */
  readonly resource?: string
  /** The audience that was asked for when the token was obtained. */
  readonly audience?: string
  /** Milliseconds since the epoch. */
  readonly obtainedAt: number
  /** Milliseconds since the epoch. */
  readonly expiresAt: number
}

/** Everything currently held for a grant. Of two sets of one grant the higher revision is the newer one. */
export interface TokenSet {
  /** Names the grant in events and in the grant store. It is no secret, and proves nothing. */
  readonly grantId: string
  /** The secret that the id is made from, see grant-proof.ts. Only sessions of the grant and its record hold it. */
  readonly proof?: string
  /** Which of the grant's sessions has this copy, see shares.ts. Absent where it is of no session. */
  readonly share?: string
  /** The shares of all sessions that the grant is in. Its record has them, and what was learned from it. */
  readonly shares?: readonly string[]
  /** Of a grant without a proof, from before there were proofs: digests of the refresh tokens that it had. */
  readonly earlier?: readonly string[]
  /** Grows at each change: of two token sets of one grant the higher revision is the newer one. */
  readonly revision: number
  readonly refreshToken?: string
  readonly idToken?: string
  /** Whom the last readable ID token is about, kept while `idToken` is encrypted: the next one must be about the same user. */
  readonly subject?: string
  readonly accessTokens: readonly AccessToken[]
  /** Of a session that holds no tokens but leads to them: the grant store has them. */
  readonly isElsewhere?: true
}

/** A token endpoint's answer (RFC 6749 §5.1), checked. */
export interface TokenAnswer {
  readonly accessToken?: string
  readonly tokenType?: string
  /** How long the access token lives from now, in milliseconds; absent when nobody said. */
  readonly lifetimeMs?: number
  readonly refreshToken?: string
  readonly idToken?: string
  /** Whom the ID token before it is about, where the new one cannot be read. */
  readonly subject?: string
  readonly scope?: string
}

/** The need that the login's own token serves. */
const LOGIN: TokenNeed = ownProperties({})
/** The leeway is at most this part of a token's lifetime, so that a short-lived token is not refreshed on every request. */
const LEEWAY_PART = 1 / 4
/** A `minValidityMs` is honoured up to this part of a token's lifetime, for the same reason. */
const MIN_VALIDITY_PART = 9 / 10
/** How many access tokens a set holds at most; each scope and resource asked for takes one place. */
const MAX_ACCESS_TOKENS = 16

/** The scopes of a scope string, each once. */
export function scopesOf(scope: string | undefined): Set<string> {
  return new Set(scope?.split(' ').filter(Boolean))
}

/** Names the access token that a need is about: equal for needs that differ in the order of scopes alone. */
export function needKey(need: Pick<TokenNeed, 'scope' | 'resource' | 'audience'>): string {
  const scope = [...scopesOf(need.scope)].sort().join(' ')
  return JSON.stringify([scope, need.resource ?? '', need.audience ?? ''])
}

function keyOf(token: AccessToken): string {
  const need = {
    ...(token.requestedScope !== undefined && { scope: token.requestedScope }),
    ...(token.resource !== undefined && { resource: token.resource }),
    ...(token.audience !== undefined && { audience: token.audience }),
  }
  return needKey(ownProperties(need))
}

function covers(token: AccessToken, need: TokenNeed): boolean {
  if ((token.resource ?? '') !== (need.resource ?? '')) return false
  if ((token.audience ?? '') !== (need.audience ?? '')) return false
  const granted = scopesOf(token.scope)
  const needed = scopesOf(need.scope)
  return needed.size > 0 && [...needed].every((scope) => isIn(granted, scope))
}

/** Scopes that a need separates by commas are each in what was granted, where commas have been read. */
function isIn(granted: ReadonlySet<string>, scope: string): boolean {
  if (granted.has(scope)) return true
  const parts = scope.split(',').filter(Boolean)
  return parts.length > 0 && parts.every((part) => granted.has(part))
}

/** Whether a token is the one that a need names, or covers its scope. */
export function serves(token: AccessToken, need: TokenNeed): boolean {
  return keyOf(token) === needKey(need) || covers(token, need)
}

/**
 * The need to refresh for. One that the login's own token covers is refreshed without a `scope`: one refresh serves all
 * guards, and a server that narrows the refresh token to the scope last asked for leaves it whole.
 */
export function needAtRefresh(tokens: TokenSet, need: TokenNeed): TokenNeed {
  const ofLogin = tokens.accessTokens.find((token) => keyOf(token) === needKey(LOGIN))
  if (!ofLogin || !covers(ofLogin, need)) return need
  const { scope: _, ...plain } = need
  return ownProperties(plain)
}

/** The access tokens that would serve a need if they were valid, the one asked for by this very need first. */
function candidates(tokens: TokenSet, need: TokenNeed): AccessToken[] {
  const key = needKey(need)
  const exact = tokens.accessTokens.filter((token) => keyOf(token) === key)
  const wider = tokens.accessTokens.filter((token) => keyOf(token) !== key && covers(token, need))
  return [...exact, ...wider].filter((token) => token.token !== need.rejected)
}

/**
 * An access token that serves the need and stays valid for the leeway, if there is one.
 *
 * The leeway shrinks to a quarter of a short-lived token's lifetime. A token that claims to have been obtained in
 * the future was obtained before the clock was set back; its expiry means nothing any more.
 */
export function usableToken(
  tokens: TokenSet,
  need: TokenNeed,
  now: number,
  leewayMs: number,
): AccessToken | undefined {
  return candidates(tokens, need).find((token) => {
    const lifetimeMs = token.expiresAt - token.obtainedAt
    const leeway = Math.min(leewayMs, lifetimeMs * LEEWAY_PART)
    const asked = Math.min(need.minValidityMs ?? 0, lifetimeMs * MIN_VALIDITY_PART)
    return now < token.expiresAt - Math.max(leeway, asked) && now >= token.obtainedAt - CLOCK_SKEW_MS
  })
}

/** How far the clocks of two hosts may be apart before a token seems to come from the future. */
const CLOCK_SKEW_MS = 60_000

/** An access token that serves the need and has not expired yet, leeway or not: what to serve when no better is to be had. */
export function unexpiredToken(tokens: TokenSet, need: TokenNeed, now: number): AccessToken | undefined {
  return candidates(tokens, need).find((token) => now < token.expiresAt)
}

/** Ten years: an access token of which nothing says when it expires, and that nothing could replace, is served until an API refuses it. */
const UNLIMITED_MS = 10 * 365 * 24 * 60 * 60 * 1000

/** The first token set of a new grant. */
export function firstTokenSet(
  grantId: string,
  given: TokenAnswer,
  now: number,
  defaultLifetimeMs: number,
): TokenSet {
  const answer = ownProperties(given)
  const unknownMs = answer.refreshToken === undefined ? UNLIMITED_MS : defaultLifetimeMs
  return ownProperties({
    grantId,
    revision: 1,
    accessTokens:
      answer.accessToken === undefined
        ? []
        : [accessTokenOf(answer.accessToken, answer, LOGIN, now, answer.lifetimeMs ?? unknownMs)],
    ...(answer.refreshToken !== undefined && { refreshToken: answer.refreshToken }),
    ...(answer.idToken !== undefined && { idToken: answer.idToken }),
  })
}

/**
 * The token set after a refresh. What the answer omits (refresh token, ID token, scope) is kept; access tokens of
 * other needs stay beside the new one until they expire (RFC 6749 §6).
 */
export function mergeTokens(
  tokens: TokenSet,
  given: TokenAnswer & { readonly accessToken: string },
  need: TokenNeed,
  now: number,
  defaultLifetimeMs: number,
): TokenSet {
  const answer = ownProperties(given)
  const key = needKey(need)
  const replaced = tokens.accessTokens.find((token) => keyOf(token) === key)
  const lifetimeMs =
    answer.lifetimeMs !== undefined && answer.lifetimeMs > 0 ? answer.lifetimeMs : defaultLifetimeMs
  const scope = answer.scope ?? replaced?.scope ?? need.scope
  const fresh = accessTokenOf(
    answer.accessToken,
    ownProperties({ ...answer, ...(scope !== undefined && { scope }) }),
    need,
    now,
    lifetimeMs,
  )
  // The login's own token is kept past its expiry, because it knows the scope that later answers may omit.
  const others = tokens.accessTokens.filter((token) => keyOf(token) !== key)
  const logins = others.filter((token) => keyOf(token) === needKey(LOGIN))
  const further = others.filter((token) => keyOf(token) !== needKey(LOGIN) && now < token.expiresAt)
  const { subject, ...kept } = tokens
  const known = answer.idToken === undefined ? subject : answer.subject
  return ownProperties({
    ...kept,
    revision: tokens.revision + 1,
    accessTokens: [fresh, ...logins, ...further].slice(0, MAX_ACCESS_TOKENS),
    ...(answer.refreshToken !== undefined && { refreshToken: answer.refreshToken }),
    ...(answer.idToken !== undefined && { idToken: answer.idToken }),
    ...(known !== undefined && { subject: known }),
  })
}

/** The token set with a new refresh token, the one before it having been used, and nothing else that is new. */
export function withRefreshToken(tokens: TokenSet, refreshToken: string): TokenSet {
  return ownProperties({ ...tokens, refreshToken, revision: tokens.revision + 1 })
}

/** The token set without its refresh token: nothing to refresh with, what is still valid goes on being served. */
export function withoutRefreshToken(tokens: TokenSet): TokenSet {
  const { refreshToken: _, ...rest } = tokens
  return ownProperties({ ...rest, revision: tokens.revision + 1 })
}

/** The token set of a grant that the authorization server has ended: it holds no token, and is newer than all that did. */
export function deadTokenSet(tokens: TokenSet): TokenSet {
  const { grantId, proof, revision } = tokens
  return ownProperties({
    grantId,
    ...(proof !== undefined && { proof }),
    revision: revision + 1,
    accessTokens: [],
  })
}

/** Whether a token set holds no token, and leads to none. */
export function isDead({ accessTokens, idToken, isElsewhere, refreshToken }: TokenSet): boolean {
  const isEmpty = accessTokens.length === 0 && refreshToken === undefined && idToken === undefined
  return isEmpty && !isElsewhere
}

/** The tokens of a grant with those of a further login by the same refresh token: its session has a share of them, too. */
export function joinedTokens(tokens: TokenSet, login: TokenSet): TokenSet {
  const { shares = [] } = tokens
  const share = login.share!
  const ofLogin = (it: AccessToken) => keyOf(it) === needKey(LOGIN)
  const [fresh] = login.accessTokens
  const held = tokens.accessTokens.find(ofLogin)
  // What came beside a refresh token that has been used since is older than what is there.
  const isFresh =
    fresh !== undefined &&
    tokens.refreshToken === login.refreshToken &&
    fresh.expiresAt > (held?.expiresAt ?? 0)
  return ownProperties({
    ...tokens,
    share,
    shares: shares.includes(share) ? shares : [...shares, share],
    revision: tokens.revision + 1,
    ...(isFresh && { accessTokens: [fresh, ...tokens.accessTokens.filter((it) => !ofLogin(it))] }),
    ...(isFresh && login.idToken !== undefined && { idToken: login.idToken }),
  })
}

/** The token set as a session with this share has it, or none. */
export function withShare(tokens: TokenSet, share: string | undefined): TokenSet {
  if (tokens.share === share) return tokens
  const { share: _, ...rest } = tokens
  return ownProperties(share === undefined ? rest : { ...rest, share })
}

/** The newer of two token sets of one grant. A set of another grant never wins over `tokens`. */
export function newest(tokens: TokenSet, other: TokenSet | undefined): TokenSet {
  if (other?.grantId !== tokens.grantId) return tokens
  // One that is dead says so of the refresh token before, one that is alive has a newer one.
  const isAlive = tokens.refreshToken === undefined && other.refreshToken !== undefined
  return other.revision > tokens.revision || (other.revision === tokens.revision && isAlive) ? other : tokens
}

/** Every string in a token set that must not be shown. */
export function secretsOf(tokens: TokenSet): string[] {
  const { accessTokens, idToken, proof, refreshToken } = tokens
  const secrets = [refreshToken, idToken, ...accessTokens.map(({ token }) => token), proof]
  return secrets.filter((secret) => secret !== undefined)
}

function accessTokenOf(
  token: string,
  answer: Pick<TokenAnswer, 'tokenType' | 'scope'>,
  need: TokenNeed,
  now: number,
  lifetimeMs: number,
): AccessToken {
  return ownProperties({
    token,
    tokenType: answer.tokenType || 'Bearer',
    obtainedAt: now,
    expiresAt: now + lifetimeMs,
    ...(answer.scope && { scope: answer.scope }),
    ...(need.scope && { requestedScope: need.scope }),
    ...(need.resource && { resource: need.resource }),
    ...(need.audience && { audience: need.audience }),
  })
}

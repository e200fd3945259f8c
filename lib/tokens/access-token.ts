import { ownProperties } from '../options/own-properties.js'
import type { TokenNeed } from './token-need.js'

/** One access token with its known properties. */
export interface AccessToken {
  readonly token: string
  /** `Bearer` unless the authorization server returned another type. */
  readonly tokenType: string
  /** The scopes that the token was granted for, if known, separated by spaces. */
  readonly scope?: string
  /** The scope that was requested when the token was obtained; absent for the login's own token. */
  readonly requestedScope?: string
  /** The resource that was requested when the token was obtained (RFC 8707). */
  readonly resource?: string
  /** The audience that was requested when the token was obtained. */
  readonly audience?: string
  /** The exchange that brought the token (RFC 8693): a name among the option `exchanges`. */
  readonly exchange?: string
  /** Milliseconds since the epoch. */
  readonly obtainedAt: number
  /** Milliseconds since the epoch. */
  readonly expiresAt: number
}

/** The access tokens of a token set. */
interface AccessTokens {
  readonly accessTokens: readonly AccessToken[]
}

/** How long before its expiry a token counts as expired: at most `ms`, and at most this part of the token's lifetime. */
export interface Margin {
  /** The time, in milliseconds. */
  readonly ms: number
  /** The largest part of the lifetime. Without it a short-lived token would be refreshed on every request. */
  readonly part: number
}

/** A `minValidityMs` is honoured up to this part of a token's lifetime: a longer one would refresh on every request. */
const MIN_VALIDITY_PART = 9 / 10
/** By which part of the time between the margins a refresh ahead of expiry may be delayed, so that processes differ. */
const JITTER_PART = 1 / 10
/** How far the clocks of two hosts may be apart before a token seems to come from the future. */
const CLOCK_SKEW_MS = 60_000

/** Returns the scopes of a scope string, each once. */
export function scopesOf(scope: string | undefined): Set<string> {
  return new Set(scope?.split(' ').filter(Boolean))
}

/** Names the access token that a need is about: equal for needs that differ only in the order of scopes. */
export function needKey({ scope, resource, audience, exchange }: TokenNeed): string {
  if (exchange) return JSON.stringify([exchange])
  if (!scope && !resource && !audience) return LOGIN_KEY
  return keyFor(scope, resource, audience)
}

/** The key of the login's own token. */
const LOGIN_KEY = JSON.stringify(['', '', ''])

function keyFor(scope: string | undefined, resource = '', audience = ''): string {
  return JSON.stringify([[...scopesOf(scope)].sort().join(' '), resource, audience])
}

/** Names an access token by the need that it was obtained for. */
export function keyOf({ requestedScope, resource, audience, exchange }: AccessToken): string {
  if (exchange) return JSON.stringify([exchange])
  if (!requestedScope && !resource && !audience) return LOGIN_KEY
  return keyFor(requestedScope, resource, audience)
}

/** Whether a token is the one that the login brought, or its successor. */
export function isOfLogin(token: AccessToken): boolean {
  return keyOf(token) === LOGIN_KEY
}

/** Whether a token is the one that a need names, or covers the need's scope. */
export function serves(token: AccessToken, need: TokenNeed): boolean {
  return keyOf(token) === needKey(need) || covers(token, need)
}

function covers(token: AccessToken, need: TokenNeed): boolean {
  if (!need.scope || token.exchange !== undefined) return false
  if ((token.resource ?? '') !== (need.resource ?? '')) return false
  if ((token.audience ?? '') !== (need.audience ?? '')) return false
  const granted = scopesOf(token.scope)
  const needed = [...scopesOf(need.scope)]
  return needed.length > 0 && needed.every((scope) => isIn(granted, scope))
}

/** Whether a scope was granted. Each part of a scope with commas counts, since granted scopes with commas were split. */
function isIn(granted: ReadonlySet<string>, scope: string): boolean {
  if (granted.has(scope)) return true
  const parts = scope.split(',').filter(Boolean)
  return parts.length > 0 && parts.every((part) => granted.has(part))
}

/**
 * Returns the need to refresh for. A need that the login's own token covers is refreshed without a `scope`: one refresh serves
 * all guards, and a server that narrows the refresh token to the last requested scope does not narrow it.
 */
export function needAtRefresh({ accessTokens }: AccessTokens, need: TokenNeed): TokenNeed {
  const ofLogin = need.scope === undefined ? undefined : accessTokens.find(isOfLogin)
  if (!ofLogin || !covers(ofLogin, need)) return need
  const { scope: _, ...plain } = need
  return ownProperties(plain)
}

/**
 * Returns an access token that serves the need and stays valid for the margin, if there is one. A token that claims to have been obtained in the future was
 * obtained before the clock was set back, so its expiry means nothing any more.
 */
export function usableToken(
  tokens: AccessTokens,
  need: TokenNeed,
  now: number,
  margin: Margin,
): AccessToken | undefined {
  return firstServing(tokens, need, ({ expiresAt, obtainedAt }) => {
    const lifetimeMs = expiresAt - obtainedAt
    const marginMs = Math.min(margin.ms, lifetimeMs * margin.part)
    const asked = Math.min(need.minValidityMs ?? 0, lifetimeMs * MIN_VALIDITY_PART)
    return now < expiresAt - Math.max(marginMs, asked) && now >= obtainedAt - CLOCK_SKEW_MS
  })
}

/**
 * Whether a usable token is to be refreshed ahead of its expiry: less than `ahead` is left.
 *
 * @param jitter between 0 and 1, for a delay of up to a tenth of the time between the two margins
 */
export function isDueAhead(
  { expiresAt, obtainedAt }: AccessToken,
  now: number,
  ahead: Margin,
  leeway: Margin,
  jitter: number,
): boolean {
  if (now < expiresAt - ahead.ms) return false
  const lifetimeMs = expiresAt - obtainedAt
  const aheadMs = Math.min(ahead.ms, lifetimeMs * ahead.part)
  const leewayMs = Math.min(leeway.ms, lifetimeMs * leeway.part)
  return now >= expiresAt - aheadMs + Math.max(0, aheadMs - leewayMs) * JITTER_PART * jitter
}

/** Returns an access token that serves the need and has not expired. The leeway does not count. */
export function unexpiredToken(tokens: AccessTokens, need: TokenNeed, now: number): AccessToken | undefined {
  return firstServing(tokens, need, ({ expiresAt }) => now < expiresAt)
}

/** Finds a token that a need names, else one that covers the need's scope, and never the token that an API rejected. */
function firstServing(
  { accessTokens }: AccessTokens,
  need: TokenNeed,
  isGood: (token: AccessToken) => boolean,
): AccessToken | undefined {
  const key = needKey(need)
  let wider: AccessToken | undefined
  for (const token of accessTokens) {
    if (token.token === need.rejected || !isGood(token)) continue
    if (keyOf(token) === key) return token
    if (!wider && covers(token, need)) wider = token
  }
  return wider
}

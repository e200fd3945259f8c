import { decodeJwt } from 'jose'
import { TokenError } from '../errors.js'
import { redact } from '../redact.js'
import type { TokenAnswer } from '../token-set.js'

/** A JSON object, nothing of it checked. */
export type Fields = Readonly<Record<string, unknown>>

/** A token answer that is sure to have an access token. */
type AccessTokenAnswer = TokenAnswer & { readonly accessToken: string }

/** No token lives longer; what claims to is cut to ten years, so that its expiry stays a date. */
const MAX_LIFETIME_MS = 10 * 365 * 24 * 60 * 60 * 1000
/** Numbers below are seconds since the epoch, numbers above milliseconds. */
const SECONDS_OR_MILLISECONDS = 1e11

/**
 * Reads a token endpoint's answer (RFC 6749 §5.1). `null` and the empty string count as omitted, and so does what is odd
 * in a field that may be missing: the refresh token has been used, and what came for it must not be lost.
 *
 * @param what Names the answer in messages.
 * @param secrets Strings that no error may show, besides the tokens in the answer.
 * @throws `ERR_INVALID_TOKEN_RESPONSE` when it has no access token, or an odd one, or an odd refresh token. What
 *   {@link refreshTokenBeside} the error is not lost either.
 */
export function tokenResponse(
  fields: Fields,
  now: number,
  what: string,
  secrets: readonly string[] = [],
): AccessTokenAnswer {
  const source = { what, cure: 'Check that the URL is that of a token endpoint.' }
  try {
    const answer = readTokens(withoutOddities(fields), now, source)
    if (answer.accessToken === undefined)
      throw invalid(source, `has no access_token${errorIn(fields, secrets)}`)
    return { ...answer, accessToken: answer.accessToken }
  } catch (error) {
    const { refresh_token: refreshToken } = fields
    if (typeof refreshToken === 'string' && refreshToken !== '' && !fields.error) {
      besideErrors.set(error as TokenError, refreshToken)
    }
    throw error
  }
}

/** Here and not in the errors, which show no token. */
const besideErrors = new WeakMap<object, string>()

/**
 * The refresh token in an answer that was refused for something else. A server that has sent a new one takes the one
 * before no more.
 */
export function refreshTokenBeside(error: object): string | undefined {
  return besideErrors.get(error)
}

function withoutOddities(fields: Fields): Fields {
  const text = (value: unknown) => (typeof value === 'string' ? value : undefined)
  return {
    access_token: fields.access_token,
    refresh_token: fields.refresh_token,
    expires_in: fields.expires_in,
    token_type: text(fields.token_type),
    id_token: text(fields.id_token),
    scope: text(joined(fields.scope)),
  }
}

/** Scopes in an array as they are in a text; anything else as it is. */
function joined(scope: unknown): unknown {
  return Array.isArray(scope) && scope.every((it) => typeof it === 'string') ? scope.join(' ') : scope
}

/**
 * Reads the tokens that `req.tokens.set(value)` is handed: a token endpoint's answer as it is (snake_case), or as
 * openid-client, simple-oauth2, arctic and Passport strategies hand it over, or in camelCase. `expires_in` is in
 * seconds from now; `expires_at` a `Date`, an ISO 8601 string or seconds since the epoch.
 *
 * @throws `ERR_INVALID_TOKEN_RESPONSE` with a message that says what to pass.
 */
export function handedOverTokens(value: unknown, now: number): TokenAnswer {
  return readHandedOver(wireNames(tokensObject(value, HANDED_OVER)), now, HANDED_OVER)
}

/**
 * Reads the tokens that an `adopt` function hands over, as {@link handedOverTokens} does; `undefined` where it has none.
 *
 * Nobody knows how long they have been lying there, so an `expires_in` says nothing. An access token that says nothing
 * itself counts as expired if there is a refresh token.
 *
 * @throws `ERR_INVALID_TOKEN_RESPONSE` with a message that says what to hand over.
 */
export function adoptedTokens(value: unknown, now: number): TokenAnswer | undefined {
  if (value === undefined || value === null) return undefined
  const object = tokensObject(value, ADOPTED)
  const fields = wireNames(object)
  if (isNothing(fields) && Object.keys(object).some((name) => TOKEN_NAMES.includes(name))) return undefined
  const { expires_in: expiresIn, ...others } = fields
  const answer = readHandedOver(others, now, ADOPTED)
  if (answer.lifetimeMs !== undefined || answer.accessToken === undefined) return answer
  if (answer.refreshToken !== undefined) return { ...answer, lifetimeMs: 0 }
  return readHandedOver({ ...others, expires_in: expiresIn }, now, ADOPTED)
}

function readHandedOver(fields: Fields, now: number, source: Source): TokenAnswer {
  if (fields.error !== undefined && fields.error !== null) {
    throw invalid(
      { ...source, cure: 'Handle it before setting tokens.' },
      `is an OAuth error${errorIn(fields)}`,
    )
  }
  const answer = readTokens(fields, now, source)
  if (answer.accessToken === undefined && answer.refreshToken === undefined) {
    throw invalid(source, 'has neither an access_token nor a refresh_token')
  }
  return answer
}

function isNothing({ access_token, refresh_token, error }: Fields): boolean {
  return [access_token, refresh_token, error].every((field) => field === undefined || field === null)
}

/** Where fields come from, for messages, and what to do when something is wrong with them. */
interface Source {
  readonly what: string
  readonly cure: string
  /** What to do about a Promise. */
  readonly cureOfPromise?: string
}

const HANDED_OVER: Source = {
  what: 'What tokens.set() was given',
  cure:
    "Pass the token endpoint's answer, such as { access_token, refresh_token, expires_in }, " +
    'or what your OAuth library made of it.',
  cureOfPromise: 'Await it.',
}

const ADOPTED: Source = {
  what: 'What the option adopt handed over',
  cure:
    'It must be as for tokens.set(), such as { access_token, refresh_token, expires_at }, ' +
    'or undefined when there are no tokens.',
  cureOfPromise: 'It must be at hand: in the session, or on the request.',
}

/** Every token in an answer: what no error may show. */
export function secretsOfAnswer(fields: Fields): string[] {
  return ['access_token', 'refresh_token', 'id_token']
    .map((name) => fields[name])
    .filter((value) => typeof value === 'string')
}

/** Whether a value is an object with fields: not `null`, not an array. */
export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function readTokens(fields: Fields, now: number, source: Source): TokenAnswer {
  const text = (name: string) => textField(fields, name, source)
  const accessToken = text('access_token')
  // Anything else could not be sent in a header (RFC 6749 appendix A.12).
  if (accessToken !== undefined && !/^[\x20-\x7e]+$/.test(accessToken)) {
    throw invalid(source, 'has an access_token with characters that no HTTP header may hold')
  }
  const tokenType = text('token_type')
  const refreshToken = text('refresh_token')
  const idToken = text('id_token')
  const scope = text('scope')
  const lifetimeMs = accessToken === undefined ? undefined : lifetimeOf(fields, accessToken, now)
  return {
    ...(accessToken !== undefined && { accessToken }),
    ...(tokenType !== undefined && { tokenType }),
    ...(lifetimeMs !== undefined && { lifetimeMs }),
    ...(refreshToken !== undefined && { refreshToken }),
    ...(idToken !== undefined && { idToken }),
    ...(scope !== undefined && { scope }),
  }
}

function textField(fields: Fields, name: string, source: Source): string | undefined {
  const value = fields[name]
  if (value === undefined || value === null || value === '') return undefined
  if (typeof value === 'string') return value
  throw invalid(source, `is wrong: ${name} is not a string`)
}

function lifetimeOf(fields: Fields, accessToken: string, now: number): number | undefined {
  const expiresAt = epochMs(fields.expires_at)
  const lifetimeMs =
    (expiresAt === undefined ? undefined : expiresAt - now) ??
    secondsOf(fields.expires_in) ??
    lifetimeOfJwt(accessToken, now)
  return lifetimeMs === undefined ? undefined : Math.min(lifetimeMs, MAX_LIFETIME_MS)
}

/** `expires_in` in milliseconds; `undefined` unless it is a number above zero, possibly written as a string. */
function secondsOf(value: unknown): number | undefined {
  const seconds = typeof value === 'string' && /^\d+(\.\d+)?$/.test(value) ? Number(value) : value
  return typeof seconds === 'number' && Number.isFinite(seconds) && seconds > 0 ? seconds * 1000 : undefined
}

/** The life of a JWT access token by its `exp` (RFC 9068 §2.2); not longer than from its `iat`, if our clock is slow. */
function lifetimeOfJwt(accessToken: string, now: number): number | undefined {
  try {
    const { exp, iat } = decodeJwt(accessToken)
    if (typeof exp !== 'number') return undefined
    const seconds = Math.min(exp - now / 1000, typeof iat === 'number' ? exp - iat : Infinity)
    return seconds > 0 ? Math.round(seconds * 1000) : undefined
  } catch {
    // Not a JWT: most access tokens are opaque.
    return undefined
  }
}

/** Milliseconds since the epoch of a `Date`, a date string, or a number of seconds or milliseconds. */
function epochMs(value: unknown): number | undefined {
  if (typeof value === 'string') return epochMs(/^\d+$/.test(value) ? Number(value) : new Date(value))
  const number = isDate(value) ? value.getTime() : value
  if (typeof number !== 'number' || !Number.isFinite(number)) return undefined
  return isDate(value) || number > SECONDS_OR_MILLISECONDS ? number : number * 1000
}

function isDate(value: unknown): value is Date {
  return Object.prototype.toString.call(value) === '[object Date]'
}

/** The names that libraries give to the fields of a token answer; the first one present counts. */
const NAMES: Readonly<Record<string, readonly string[]>> = {
  access_token: ['access_token', 'accessToken'],
  token_type: ['token_type', 'tokenType'],
  refresh_token: ['refresh_token', 'refreshToken'],
  id_token: ['id_token', 'idToken'],
  scope: ['scope', 'scopes'],
  expires_in: ['expires_in', 'expiresIn'],
  expires_at: ['expires_at', 'expiresAt', 'accessTokenExpiresAt', 'expiresOn'],
  error: ['error'],
  error_description: ['error_description'],
}

const TOKEN_NAMES = [...NAMES.access_token!, ...NAMES.refresh_token!]

function wireNames(value: Fields): Fields {
  const fields = Object.entries(NAMES).map(([wireName, names]): [string, unknown] => {
    const found = names.map((name) => value[name]).find((field) => field !== undefined && field !== null)
    return [wireName, wireName === 'scope' ? joined(found) : found]
  })
  return Object.fromEntries(fields)
}

/** The object that has the tokens in its fields. */
function tokensObject(value: unknown, source: Source): Fields {
  if (!isFields(value)) throw invalid(source, `is ${shownType(value)}`)
  if (typeof value.then === 'function') {
    // Nobody else will look at it, and what it rejects with would end the process.
    Promise.resolve(value).catch(() => {})
    throw invalid({ ...source, cure: source.cureOfPromise ?? source.cure }, 'is a Promise')
  }
  // arctic's OAuth2Tokens and simple-oauth2's AccessToken wrap the answer.
  if (typeof value.accessToken === 'function' && isFields(value.data)) return value.data
  if (value.access_token === undefined && isFields(value.token)) return value.token
  return value
}

function shownType(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  return Array.isArray(value) ? 'an array' : `a ${typeof value}`
}

/** The error code in an answer: the sender's own word, so that it may quote a secret. */
function errorIn(fields: Fields, secrets: readonly string[] = []): string {
  const { error } = fields
  if (typeof error !== 'string' || !/^[\x21\x23-\x5b\x5d-\x7e]{1,64}$/.test(error)) return ''
  return ` (${redact(error, [...secrets, ...secretsOfAnswer(fields)])})`
}

function invalid({ what, cure }: Source, flaw: string): TokenError {
  return new TokenError('ERR_INVALID_TOKEN_RESPONSE', `${what} ${flaw}. ${cure}`)
}

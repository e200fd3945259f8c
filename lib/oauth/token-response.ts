import { TokenError } from '../errors.js'
import { fieldValue, ownProperties } from '../own-properties.js'
import { redact } from '../redact.js'
import type { TokenAnswer } from '../token-set.js'
import { boundedLifetime, type Expiry, expiryIn, lifetimeOfJwt } from './expiry.js'
import { type Fields, isFields } from './fields.js'
import { scopesIn } from './scopes.js'

/** A token answer that is sure to have an access token. */
type AccessTokenAnswer = TokenAnswer & { readonly accessToken: string }

/** Objects in which servers send the tokens: TikTok and Lark (`data`), Withings (`body`), Slack for users (`authed_user`). */
const ENVELOPES = ['data', 'body', 'authed_user']

/** The fields that stand beside the access token: those of the response, or of an object in it. `undefined` without one. */
export function tokenFields(fields: Fields): Fields | undefined {
  return [fields, ...ENVELOPES.map((name) => fields[name])].filter(isFields).find(hasAccessToken)
}

function hasAccessToken(fields: Fields): boolean {
  const { access_token: accessToken } = wireNames(fields)
  return accessToken !== undefined && accessToken !== ''
}

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
  const named = wireNames(fields)
  try {
    const { untilMs, forMs } = expiryIn(fields, now)
    // A response counts from now: a life is surer than a moment by the server's clock, and one that is over means nothing.
    const lifetimeMs = forMs ?? (untilMs !== undefined && untilMs > 0 ? untilMs : undefined)
    const answer = readTokens(withoutOddities(named), lifetimeMs, now, source)
    if (answer.accessToken === undefined)
      throw invalid(source, `has no access_token${errorIn(fields, secrets)}`)
    return ownProperties({ ...answer, accessToken: answer.accessToken })
  } catch (error) {
    const { refresh_token: refreshToken } = named
    if (
      typeof refreshToken === 'string' &&
      refreshToken !== '' &&
      !CONTROLS.test(refreshToken) &&
      !fields.error
    ) {
      besideErrors.set(error as TokenError, refreshToken)
    }
    throw error
  }
}

/** Here and not in the errors, which show no token. */
const besideErrors = new WeakMap<object, string>()

/**
 * The refresh token in an answer that was refused for something else, once: the error may be kept for longer. A server that
 * has sent a new one takes the one before no more.
 */
export function refreshTokenBeside(error: object): string | undefined {
  const refreshToken = besideErrors.get(error)
  besideErrors.delete(error)
  return refreshToken
}

function withoutOddities(fields: Fields): Fields {
  const text = (value: unknown) => (typeof value === 'string' ? value : undefined)
  return {
    access_token: fields.access_token,
    refresh_token: fields.refresh_token,
    token_type: text(fields.token_type),
    id_token: text(fields.id_token),
    scope: text(fields.scope),
  }
}

/** Scopes as they are in a text, with spaces between them (RFC 6749 §3.3); anything else as it is. */
function joined(scope: unknown): unknown {
  return typeof scope === 'string' || isTexts(scope) ? scopesIn(scope).join(' ') : scope
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((it) => typeof it === 'string')
}

/**
 * Reads the tokens that `req.tokens.set(value)` is handed: a token endpoint's response as it is (snake_case), or as
 * openid-client, simple-oauth2, arctic and Passport strategies hand it over, or in camelCase. `expires_in` is in seconds
 * from now; `expires_at` a `Date`, a date in a text, or seconds or milliseconds since the epoch. See `expiryIn()` for the
 * other names that an expiry may have.
 *
 * @throws `ERR_INVALID_TOKEN_RESPONSE` with a message that says what to pass.
 */
export function handedOverTokens(value: unknown, now: number): TokenAnswer {
  const object = tokensObject(value, HANDED_OVER)
  return readHandedOver(object, ({ untilMs, forMs }) => untilMs ?? forMs, now, HANDED_OVER)
}

/**
 * Reads the tokens that an `adopt` function hands over, as {@link handedOverTokens} does; `undefined` where it has none.
 *
 * How long they have been lying there is not known, so an `expires_in` says nothing. An access token that says nothing
 * itself counts as expired if there is a refresh token.
 *
 * @throws `ERR_INVALID_TOKEN_RESPONSE` with a message that says what to hand over.
 */
export function adoptedTokens(value: unknown, now: number): TokenAnswer | undefined {
  if (value === undefined || value === null) return undefined
  const object = tokensObject(value, ADOPTED)
  if (isNothing(wireNames(object)) && Object.keys(object).some((name) => TOKEN_NAMES.includes(name))) {
    return undefined
  }
  const answer = readHandedOver(object, ({ untilMs }) => untilMs, now, ADOPTED)
  if (answer.lifetimeMs !== undefined || answer.accessToken === undefined) return answer
  if (answer.refreshToken !== undefined) return { ...answer, lifetimeMs: 0 }
  return readHandedOver(object, ({ forMs }) => forMs, now, ADOPTED)
}

function readHandedOver(
  object: Fields,
  lifetimeBy: (expiry: Expiry) => number | undefined,
  now: number,
  source: Source,
): TokenAnswer {
  const fields = wireNames(object)
  if (fields.error !== undefined && fields.error !== null) {
    throw invalid(
      { ...source, cure: 'Handle it before setting tokens.' },
      `is an OAuth error${errorIn(fields)}`,
    )
  }
  const answer = readTokens(fields, lifetimeBy(expiryIn(object, now)), now, source)
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

/** What a header may hold (RFC 6749 appendix A.12), and what no token of any kind may. */
const SENDABLE = /^[\x20-\x7e]+$/
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are sought
const CONTROLS = /[\x00-\x1f\x7f]/

function readTokens(given: Fields, saidMs: number | undefined, now: number, source: Source): TokenAnswer {
  const fields = ownProperties(given)
  const text = (name: string) => textField(fields, name, source)
  const accessToken = text('access_token')
  const tokenType = text('token_type')
  for (const [name, value] of Object.entries({ access_token: accessToken, token_type: tokenType })) {
    if (value === undefined || SENDABLE.test(value)) continue
    throw invalid(
      source,
      `has ${name === 'token_type' ? 'a' : 'an'} ${name} with characters that no HTTP header may hold`,
    )
  }
  const refreshToken = text('refresh_token')
  if (refreshToken !== undefined && CONTROLS.test(refreshToken)) {
    throw invalid(source, 'has a refresh_token with control characters')
  }
  const idToken = text('id_token')
  const scope = text('scope')
  const lifetimeMs =
    accessToken === undefined ? undefined : boundedLifetime(saidMs ?? lifetimeOfJwt(accessToken, now))
  return ownProperties({
    ...(accessToken !== undefined && { accessToken }),
    ...(tokenType !== undefined && { tokenType }),
    ...(lifetimeMs !== undefined && { lifetimeMs }),
    ...(refreshToken !== undefined && { refreshToken }),
    ...(idToken !== undefined && { idToken }),
    ...(scope !== undefined && { scope }),
  })
}

function textField(fields: Fields, name: string, source: Source): string | undefined {
  const value = fields[name]
  if (value === undefined || value === null || value === '') return undefined
  if (typeof value === 'string') return value
  throw invalid(source, `is wrong: ${name} is not a string`)
}

/** The names that libraries give to the fields of a token answer; the first one present counts. */
const NAMES: Readonly<Record<string, readonly string[]>> = {
  access_token: ['access_token', 'accessToken'],
  token_type: ['token_type', 'tokenType'],
  refresh_token: ['refresh_token', 'refreshToken'],
  id_token: ['id_token', 'idToken'],
  scope: ['scope', 'scopes'],
  error: ['error'],
  error_description: ['error_description'],
}

const TOKEN_NAMES = [...NAMES.access_token!, ...NAMES.refresh_token!]

function wireNames(value: Fields): Fields {
  const fields = Object.entries(NAMES).map(([wireName, names]): [string, unknown] => {
    const found = names
      .map((name) => fieldValue(value, name))
      .find((field) => field !== undefined && field !== null)
    return [wireName, wireName === 'scope' ? joined(found) : found]
  })
  return ownProperties(Object.fromEntries(fields))
}

/** The object that has the tokens in its fields. */
function tokensObject(value: unknown, source: Source): Fields {
  if (!isFields(value)) throw invalid(source, `is ${shownType(value)}`)
  const field = (name: string) => fieldValue(value, name)
  if (typeof field('then') === 'function') {
    // Nobody else will look at it, and what it rejects with would end the process.
    Promise.resolve(value).catch(() => {})
    throw invalid({ ...source, cure: source.cureOfPromise ?? source.cure }, 'is a Promise')
  }
  // arctic's OAuth2Tokens and simple-oauth2's AccessToken wrap the answer.
  const [data, token] = [field('data'), field('token')]
  if (typeof field('accessToken') === 'function' && isFields(data)) return data
  if (field('access_token') === undefined && isFields(token)) return token
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

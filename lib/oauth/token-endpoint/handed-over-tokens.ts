import { fieldValue, isJsonObject, type JsonObject, ownProperties } from '../../options/own-properties.js'
import type { TokenResponse } from '../../tokens/token-response.js'
import { EXPIRY_FIELDS, type Expiry, lifetimesIn } from './expiry.js'
import {
  errorIn,
  invalidResponse,
  type MessageParts,
  readTokens,
  TOKEN_FIELD_NAMES,
  wireNames,
} from './token-response.js'

const FIELDS = [...TOKEN_FIELD_NAMES, ...EXPIRY_FIELDS, 'error']
const TOKEN_NAMES = ['access_token', 'accessToken', 'refresh_token', 'refreshToken']

/** A place at which the app hands over tokens, for error messages. */
interface HandOver extends MessageParts {
  /** The cure for a promise in place of tokens. */
  readonly cureOfPromise: string
}

const SET: HandOver = {
  describe: () => 'The argument of tokens.set()',
  cure:
    "Pass the token endpoint's response, such as { access_token, refresh_token, expires_in }, " +
    'or the tokens object of your OAuth library.',
  cureOfPromise: 'Await it.',
}

const ADOPT: HandOver = {
  describe: () => 'The result of the option adopt',
  cure:
    'It must be as for tokens.set(), such as { access_token, refresh_token, expires_at }, ' +
    'or undefined when there are no tokens.',
  cureOfPromise:
    'Return the tokens themselves. Load them in an earlier middleware, and read them from the session or the request.',
}

/**
 * Reads the tokens that `req.tokens.set(value)` is given: a response of the token endpoint as it is (snake_case), the tokens
 * object of openid-client, simple-oauth2, arctic or a Passport strategy, or an object in camelCase. `expires_in` is in seconds
 * from now. `expires_at` is a `Date`, a date in a string, or seconds or milliseconds since the epoch. `EXPIRY_FIELDS` lists the
 * other names that an expiry may have.
 *
 * @throws `ERR_INVALID_TOKEN_RESPONSE` with a message that says what to pass.
 */
export function handedOverTokens(value: unknown, now: number): TokenResponse {
  const fields = fieldsOf(tokensObject(value, SET))
  return read(fields, ({ untilMs, forMs }) => untilMs ?? forMs, now, SET)
}

/**
 * Reads the tokens that an `adopt` function returns, as {@link handedOverTokens} does. Returns `undefined` if there are none.
 *
 * The tokens may be of any age, so an `expires_in` is not read. An access token without another expiry counts as expired if
 * there is a refresh token.
 *
 * @throws `ERR_INVALID_TOKEN_RESPONSE` with a message that says what to return.
 */
export function adoptedTokens(value: unknown, now: number): TokenResponse | undefined {
  if (value === undefined || value === null) return undefined
  const object = tokensObject(value, ADOPT)
  const fields = fieldsOf(object)
  if (isEmpty(fields) && Object.keys(object).some((name) => TOKEN_NAMES.includes(name))) return undefined
  const tokens = read(fields, ({ untilMs }) => untilMs, now, ADOPT)
  if (tokens.lifetimeMs !== undefined || tokens.accessToken === undefined) return tokens
  if (tokens.refreshToken !== undefined) return ownProperties({ ...tokens, lifetimeMs: 0 })
  return read(fields, ({ forMs }) => forMs, now, ADOPT)
}

function read(
  fields: JsonObject,
  lifetimeBy: (expiry: Expiry) => number | undefined,
  now: number,
  source: MessageParts,
): TokenResponse {
  if (fields.error !== undefined && fields.error !== null) {
    const { describe } = source
    throw invalidResponse(
      { describe, cure: 'Handle it before setting tokens.' },
      `is an OAuth error${errorIn(fields)}`,
    )
  }
  const tokens = readTokens(wireNames(fields), lifetimesIn(fields, now, lifetimeBy), now, source)
  if (tokens.accessToken === undefined && tokens.refreshToken === undefined) {
    throw invalidResponse(source, 'has neither an access_token nor a refresh_token')
  }
  return tokens
}

function isEmpty(fields: JsonObject): boolean {
  return [...TOKEN_NAMES, 'error'].every((name) => fields[name] === undefined || fields[name] === null)
}

/** Finds the object that has the tokens in its fields. */
function tokensObject(value: unknown, source: HandOver): object {
  if (!isJsonObject(value)) throw invalidResponse(source, `is ${typeOf(value)}`)
  if (typeof fieldValue(value, 'then') === 'function') {
    // A rejection that is not handled would end the process.
    Promise.resolve(value).catch(() => {})
    throw invalidResponse({ ...source, cure: source.cureOfPromise }, 'is a Promise')
  }
  // arctic's OAuth2Tokens and simple-oauth2's AccessToken wrap the response.
  const [data, token] = [fieldValue(value, 'data'), fieldValue(value, 'token')]
  if (typeof fieldValue(value, 'accessToken') === 'function' && isJsonObject(data)) return data
  if (fieldValue(value, 'access_token') === undefined && isJsonObject(token)) return token
  return value
}

/** Copies the fields that are read here. They may be those of a class, such as getters. */
function fieldsOf(object: object): JsonObject {
  return ownProperties(Object.fromEntries(FIELDS.map((name) => [name, fieldValue(object, name)])))
}

function typeOf(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  return Array.isArray(value) ? 'an array' : `a ${typeof value}`
}

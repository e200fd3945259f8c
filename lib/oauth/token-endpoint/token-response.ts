import { redact } from '../../errors/redact.js'
import { TokenError } from '../../errors/token-error.js'
import {
  isJsonObject,
  type JsonObject,
  ownProperties,
  parseJsonObject,
} from '../../options/own-properties.js'
import type { TokenResponse } from '../../tokens/token-response.js'
import type { FailedRefresh, RefreshResponse } from '../authorization-server.js'
import type { HttpResponse } from '../http.js'
import { sessionExpiryOf } from '../id-token/id-token.js'
import { lifetimeOf, lifetimesIn } from './expiry.js'

/** `name=value` pairs and nothing else: no white space, no markup, no braces. */
const FORM = /^[\w.~-]+(?:\[\])?=[^\s<>{}"&]*(?:&[\w.~-]+(?:\[\])?=[^\s<>{}"&]*)*$/
/** JSON as the argument of a function (JSONP), as QQ sends. */
const JSONP = /^[\w$.]+\(\s*(\{.*\})\s*\)\s*;?$/s
/** The names of which a form must hold one to be a response of a token endpoint. */
const FORM_NAMES = ['access_token', 'error']
/** Objects in which servers send the tokens: TikTok and Lark (`data`), Withings (`body`), Slack for users (`authed_user`). */
const ENVELOPES = ['data', 'body', 'authed_user']

/** The names that servers and libraries give to the fields of a token response. The first name present counts. */
const NAMES = {
  access_token: ['access_token', 'accessToken'],
  token_type: ['token_type', 'tokenType'],
  refresh_token: ['refresh_token', 'refreshToken'],
  id_token: ['id_token', 'idToken'],
  scope: ['scope', 'scopes'],
} as const

/** Every field that {@link wireNames} reads. */
export const TOKEN_FIELD_NAMES: readonly string[] = Object.values(NAMES).flat()

/** The fields of a token response by their names on the wire. Their values are unchecked. */
export type TokenFields = Readonly<Record<keyof typeof NAMES, unknown>>

/** The parts of an error message about tokens. */
export interface MessageParts {
  /** Names the place that the tokens come from, e.g. `The argument of tokens.set()`. */
  readonly describe: () => string
  /** Returns a text for the operator alone, such as the URL of an endpoint. */
  readonly where?: () => string
  /** The cure if a field is wrong. */
  readonly cure: string
}

/** The characters that a header may hold (RFC 6749 appendix A.12). */
const SENDABLE = /^[\x20-\x7e]+$/
/** The characters that no token may hold. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are searched for
const CONTROLS = /[\x00-\x1f\x7f]/

/**
 * Reads the fields of a response's body, which is a JSON object (RFC 6749 §5.1), alone or as JSONP, or a form, as GitHub
 * sends. The content type is not looked at: some servers declare JSON or a form to be HTML or plain text.
 */
export function fieldsOf({ body }: HttpResponse): JsonObject | undefined {
  if (!('text' in body)) return undefined
  const object = parseJsonObject(body.text)
  if (object) return object
  const trimmed = body.text.trim()
  return parseJsonObject(JSONP.exec(trimmed)?.[1] ?? '') ?? formFields(trimmed)
}

/** Reads a form. The first value of a repeated name counts. */
function formFields(text: string): JsonObject | undefined {
  if (!FORM.test(text)) return undefined
  const fields = new Map<string, string>()
  for (const [name, value] of new URLSearchParams(text)) if (!fields.has(name)) fields.set(name, value)
  return FORM_NAMES.some((name) => fields.has(name)) ? ownProperties(Object.fromEntries(fields)) : undefined
}

/** Finds the object that holds the access token: the response itself or an object in it. */
export function tokenFields(fields: JsonObject): JsonObject | undefined {
  if (hasAccessToken(fields)) return fields
  return ENVELOPES.map((name) => fields[name])
    .filter(isJsonObject)
    .map(ownProperties)
    .find(hasAccessToken)
}

/** Whether a response brings an access token, or only a refresh token. */
export function hasTokens(fields: JsonObject): boolean {
  return tokenFields(fields) !== undefined || Boolean(wireNames(fields).refresh_token)
}

function hasAccessToken(fields: JsonObject): boolean {
  const accessToken = firstPresent(fields, NAMES.access_token)
  return accessToken !== undefined && accessToken !== ''
}

/** Returns the first value that is neither `undefined` nor `null`. */
function firstPresent(fields: JsonObject, names: readonly string[]): unknown {
  for (const name of names) if (fields[name] !== undefined && fields[name] !== null) return fields[name]
  return undefined
}

/** Gives the fields of a token response their names on the wire, and separates scopes by spaces. */
export function wireNames(fields: JsonObject): TokenFields {
  const scope = firstPresent(fields, NAMES.scope)
  return {
    access_token: firstPresent(fields, NAMES.access_token),
    token_type: firstPresent(fields, NAMES.token_type),
    refresh_token: firstPresent(fields, NAMES.refresh_token),
    id_token: firstPresent(fields, NAMES.id_token),
    scope: typeof scope === 'string' || isStrings(scope) ? scopesIn(scope).join(' ') : scope,
  }
}

/**
 * Splits scopes in a string or an array, separated by white space (RFC 6749 §3.3) or by commas, as GitHub, Slack and Strava
 * send them.
 */
export function scopesIn(scope: string | readonly string[] | undefined): string[] {
  return [scope ?? []]
    .flat()
    .flatMap((text) => text.split(/[\s,]+/))
    .filter((it) => it !== '')
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((it) => typeof it === 'string')
}

/**
 * Reads a successful response of the token endpoint (RFC 6749 §5.1). `null` and the empty string count as omitted. So does
 * an invalid value of an optional field, the refresh token among them: the server has spent the old refresh token, and the tokens
 * it sent must not be lost. A refresh token that is a whole number is kept as its digits.
 *
 * Returns an `ERR_INVALID_TOKEN_RESPONSE` with the new refresh token and the ID token if the response brings one, but no usable access token.
 *
 * @throws `ERR_INVALID_TOKEN_RESPONSE` without an access token, or with an invalid one.
 */
export function tokenResponse(
  fields: JsonObject,
  { describe, now, secrets, where }: ResponseSource,
): RefreshResponse | FailedRefresh {
  const source = messageParts({ describe, where })
  const named = wireNames(fields)
  try {
    const tokens = readTokens(withoutInvalid(named), lifetimesIn(fields, now), now, source)
    if (tokens.accessToken !== undefined) return tokens as RefreshResponse
    throw invalidResponse(source, `has no access_token${errorIn(fields, secrets())}`)
  } catch (error) {
    const { refresh_token: refreshToken, id_token: idToken } = withoutInvalid(named)
    if (!refreshToken || fields.error) throw error
    const failed = { error: error as TokenError, refreshToken }
    return ownProperties({ ...failed, ...(idToken && { idToken }) })
  }
}

function messageParts({ describe, where }: Pick<ResponseSource, 'describe' | 'where'>): MessageParts {
  const cure = 'Check that the URL is that of a token endpoint.'
  return { describe: () => `${describe()}: its response`, where, cure }
}

/**
 * Makes the error for a successful response that cannot be used.
 *
 * @param flaw the end of a sentence that begins with "its response", such as `has a token of another type`
 */
export function flawedError(source: Pick<ResponseSource, 'describe' | 'where'>, flaw: string): TokenError {
  return invalidResponse({ ...messageParts(source), cure: 'Check the option `exchanges`.' }, flaw)
}

/** The request that a token response belongs to. */
interface ResponseSource {
  readonly describe: () => string
  readonly where: () => string
  /** Collects the strings that no error may show, besides the tokens in the response. */
  readonly secrets: () => readonly string[]
  /** Milliseconds since the epoch. */
  readonly now: number
}

/** Leaves out optional fields that are no strings, and a refresh token that cannot be sent. */
function withoutInvalid({ access_token, refresh_token, token_type, id_token, scope }: TokenFields) {
  const refreshToken = Number.isSafeInteger(refresh_token) ? String(refresh_token) : refresh_token
  const isUsable = typeof refreshToken === 'string' && !CONTROLS.test(refreshToken)
  return {
    access_token,
    refresh_token: isUsable ? refreshToken : undefined,
    token_type: typeof token_type === 'string' ? token_type : undefined,
    id_token: typeof id_token === 'string' ? id_token : undefined,
    scope: typeof scope === 'string' ? scope : undefined,
  }
}

/** How long tokens live from now, in milliseconds. */
export interface Lifetimes {
  /** The lifetime of the access token. Default: until the `exp` of a JWT. */
  readonly lifetimeMs: number | undefined
  /** The lifetime of the refresh token. */
  readonly refreshLifetimeMs: number | undefined
}

/** Checks the tokens and gives them our names. */
export function readTokens(
  fields: TokenFields,
  { lifetimeMs, refreshLifetimeMs }: Lifetimes,
  now: number,
  source: MessageParts,
): TokenResponse {
  const accessToken = sendable(stringField(fields, 'access_token', source), 'an access_token', source)
  const tokenType = sendable(stringField(fields, 'token_type', source), 'a token_type', source)
  const refreshToken = stringField(fields, 'refresh_token', source)
  if (refreshToken !== undefined && CONTROLS.test(refreshToken)) {
    throw invalidResponse(source, 'has a refresh_token with control characters')
  }
  const idToken = stringField(fields, 'id_token', source)
  const scope = stringField(fields, 'scope', source)
  const bounded = accessToken === undefined ? undefined : lifetimeOf(accessToken, lifetimeMs, now)
  const sessionExpiresAt = idToken === undefined ? undefined : sessionExpiryOf(idToken)
  return ownProperties({
    ...(accessToken !== undefined && { accessToken }),
    ...(tokenType !== undefined && { tokenType }),
    ...(bounded !== undefined && { lifetimeMs: bounded }),
    ...(refreshToken !== undefined && { refreshToken }),
    ...(refreshLifetimeMs !== undefined && { refreshLifetimeMs }),
    ...(idToken !== undefined && { idToken }),
    ...(sessionExpiresAt !== undefined && { sessionExpiresAt }),
    ...(scope !== undefined && { scope }),
  })
}

function stringField(fields: TokenFields, name: keyof TokenFields, source: MessageParts): string | undefined {
  const value = fields[name]
  if (value === undefined || value === null || value === '') return undefined
  if (typeof value === 'string') return value
  throw invalidResponse(source, `is wrong: ${name} is not a string`)
}

function sendable(value: string | undefined, name: string, source: MessageParts): string | undefined {
  if (value === undefined || SENDABLE.test(value)) return value
  throw invalidResponse(source, `has ${name} with characters that no HTTP header may hold`)
}

/** Quotes the error code in a response. The sender chose it, so it may hold a secret. */
export function errorIn(fields: JsonObject, secrets: readonly string[] = []): string {
  const { error } = fields
  if (typeof error !== 'string' || !/^[\x21\x23-\x5b\x5d-\x7e]{1,64}$/.test(error)) return ''
  const { access_token, refresh_token, id_token } = wireNames(fields)
  const tokens = [access_token, refresh_token, id_token].filter((it) => typeof it === 'string')
  return ` (${redact(error, [...secrets, ...tokens])})`
}

export function invalidResponse({ describe, cure, where }: MessageParts, flaw: string): TokenError {
  return new TokenError('ERR_INVALID_TOKEN_RESPONSE', `${describe()} ${flaw}. ${cure}`, {
    details: where?.(),
  })
}

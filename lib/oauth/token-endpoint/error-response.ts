import { redact, safeExcerpt } from '../../errors/redact.js'
import {
  type StepUp,
  StepUpError,
  TokenError,
  type TokenErrorCode,
  type TokenErrorDetails,
} from '../../errors/token-error.js'
import type { JsonObject } from '../../options/own-properties.js'
import type { HttpResponse } from '../http.js'
import { errorCodeIn, isInvalidGrant, type ServerError } from './error-code.js'
import { askIsGrantEnded, type IsGrantEnded, tokensIn } from './is-grant-ended.js'
import { INTERACTION_CODES, stepUpIn } from './step-up.js'
import { fieldsOf, hasTokens } from './token-response.js'
import { isEndOfGrant, isTemporary } from './vendor-errors.js'

/** An hour. A longer Retry-After is cut to it, so that no caller waits for longer. */
const MAX_RETRY_AFTER_MS = 60 * 60 * 1000
const MAX_ERROR_LENGTH = 64
const MAX_DESCRIPTION_LENGTH = 500
const MAX_CONTENT_LENGTH = 100

const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308]
/** Error codes that say that the client is not accepted (RFC 6749 §5.2). GitHub and Slack send codes of their own. */
const CLIENT_CODES: ReadonlySet<string> = new Set([
  ...['invalid_client', 'unauthorized_client'],
  ...['incorrect_client_credentials', 'bad_client_secret', 'invalid_client_id'],
])
/**
 * Error codes that refuse the requested scope or API, not the grant (RFC 6749 §5.2, RFC 8707 §2). Entra ID sends
 * `invalid_resource` for an unknown API.
 */
const NEED_CODES: ReadonlySet<string> = new Set(['invalid_scope', 'invalid_target', 'invalid_resource'])

const CHECK_URL = 'Check the URL, and the proxies in between.'
const CHECK_CLIENT = 'Check clientId and clientAuthentication.'
const TRY_LATER = 'Try again later.'

/**
 * The cures for the error codes of RFC 6749 §5.2, RFC 7009 §2.2.1 and RFC 8707 §2. Messages show these codes even if a
 * secret is equal to one of them.
 */
const CURES = new Map([
  ['invalid_request', 'Check the parameters that were sent.'],
  ['invalid_client', CHECK_CLIENT],
  ['invalid_grant', 'Send the user to the login.'],
  ['unauthorized_client', 'Allow the client this grant type at the authorization server.'],
  ['unsupported_grant_type', 'Allow this grant type at the authorization server.'],
  ['unsupported_token_type', 'Use clear() to log out in this app alone.'],
  ['invalid_scope', 'Check the scope that was requested.'],
  ['invalid_target', 'Check the resource that was requested.'],
  ['temporarily_unavailable', TRY_LATER],
  ['server_error', TRY_LATER],
  ['use_dpop_nonce', TRY_LATER],
  [
    'invalid_dpop_proof',
    "Check this process's clock, and the algorithms that the server accepts (dpop.alg).",
  ],
])

/** The request that a response belongs to, for judging it and for error messages. */
export interface ResponseContext {
  /** Names the endpoint, without its URL: `The token endpoint`. */
  readonly describe: () => string
  /** Returns the endpoint's URL for the operator, without secrets. Called when an error is made. */
  readonly where: () => string
  /** Collects the strings that no error may show: they are redacted. Called when an error is made. */
  readonly secrets: () => readonly string[]
  /** Milliseconds since the epoch. */
  readonly now: number
  /** The facts of the refresh, if the request is a refresh. */
  readonly refresh: RefreshFacts | undefined
}

/** The facts of a refresh by which an error response to it is judged. */
export interface RefreshFacts {
  /** Whether the caller named a scope, a resource or an audience: a refusal of these is about that need alone. */
  readonly namesNeed: boolean
  readonly isGrantEnded: IsGrantEnded | undefined
}

/** Whether the server is overloaded, out of order or restarting. Such a response says nothing about the request. */
export function isUnavailable({ status }: HttpResponse): boolean {
  return status >= 500 || status === 429 || status === 408
}

/** Makes the error for the response of a server that is overloaded, out of order or restarting, see {@link isUnavailable}. */
export function unavailableError(
  response: HttpResponse,
  { describe, now, where }: Pick<ResponseContext, 'describe' | 'now' | 'where'>,
): TokenError {
  return new TokenError(
    'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    `${describe()} responded with ${response.status}. ${TRY_LATER}`,
    {
      responseStatus: response.status,
      retryAfterMs: retryAfterMs(response.header('retry-after'), now),
      details: where(),
    },
  )
}

/**
 * Makes the error for a response that is not a success (RFC 6749 §5.2). Error codes are read from a JSON object or a form, with
 * any status below 500. A response that is neither, as from a broken proxy, ends no session.
 */
export function errorOfResponse(response: HttpResponse, context: ResponseContext): TokenError {
  const { status } = response
  const { describe, where } = context
  if (isUnavailable(response)) return unavailableError(response, context)
  if (REDIRECTS.includes(status)) {
    return invalidResponse(
      `${describe()} responded with a redirect (${status}), which is not followed. Give the URL that it leads to.`,
      where(),
    )
  }
  const fields = fieldsOf(response)
  const error = fields && errorCodeIn(fields, true)
  if (error) return serverError(error, fields, response, context)
  const end = fields && endWithoutCode(response, fields, context)
  if (end) return end
  if (status === 401 && !fields && response.header('www-authenticate') !== undefined) {
    return new TokenError(
      'ERR_CLIENT_REJECTED',
      `${describe()} refused the client authentication (401). ${CHECK_CLIENT}`,
      { details: where() },
    )
  }
  return invalidResponse(
    `${describe()} responded with ${status}, and the body ${flawOf(response, fields)}. ${CHECK_URL}`,
    where() + contentOf(response, fields, context),
  )
}

/** Makes the error in a response with a success status, as GitHub, Slack and TikTok send it, if there is one. */
export function errorOfSuccess(
  response: HttpResponse,
  fields: JsonObject,
  context: ResponseContext,
): TokenError | undefined {
  const error = errorCodeIn(fields, false)
  if (error) return serverError(error, fields, response, context)
  return hasTokens(fields) ? undefined : endWithoutCode(response, fields, context)
}

/** Makes the error for a response without tokens and without an error code, if `isGrantEnded` says that it ends the grant. */
function endWithoutCode(
  { status }: HttpResponse,
  fields: JsonObject,
  { describe, refresh, secrets, where }: ResponseContext,
): TokenError | undefined {
  const isGrantEnded = refresh?.isGrantEnded
  if (!isGrantEnded) return undefined
  const known = [...secrets(), ...tokensIn(fields)]
  if (!askIsGrantEnded(isGrantEnded, { status, body: fields, error: '' }, known)) return undefined
  return new TokenError(
    'ERR_REAUTHENTICATION_REQUIRED',
    `${describe()} responded with ${status}, and isGrantEnded says that this ends the grant. Send the user to the login.`,
    { details: where() },
  )
}

/** Makes the error for a success whose body cannot be read. */
export function unreadableError(response: HttpResponse, context: ResponseContext): TokenError {
  if (isCutOff(response)) {
    return new TokenError(
      'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
      `${context.describe()} responded with ${response.status}, but the body ends in the middle. ${TRY_LATER}`,
      { details: context.where() },
    )
  }
  return invalidResponse(
    `${context.describe()} responded with ${response.status}, but the body ${flawOf(response)}. ${CHECK_URL}`,
    context.where() + contentOf(response, undefined, context),
  )
}

function serverError(
  { code, description }: ServerError,
  fields: JsonObject,
  response: HttpResponse,
  context: ResponseContext,
): TokenError {
  const { status } = response
  const secrets = [...context.secrets(), ...tokensIn(fields)]
  const isKnown = [CURES, INTERACTION_CODES, CLIENT_CODES, NEED_CODES].some((codes) => codes.has(code))
  const error = isKnown ? code : safeExcerpt(code, secrets, MAX_ERROR_LENGTH)
  const errorDescription =
    description === undefined ? '' : safeExcerpt(description, secrets, MAX_DESCRIPTION_LENGTH)
  const quote = errorDescription && `: "${errorDescription}"`
  const details: TokenErrorDetails = {
    error,
    ...(errorDescription !== '' && { errorDescription }),
    retryAfterMs: retryAfterMs(response.header('retry-after'), context.now),
    // A text that is no code, such as that of a gateway, says less than the status.
    details: context.where() + (isKnown ? '' : ` (${status})`) + quote,
  }
  const message = `${context.describe()} responded with ${error}.`
  const { kind, stepUp } = judge({ code, error, fields, status, secrets }, context)
  if (stepUp) {
    const cure = 'Send the user to the login, with the claims, acr_values and max_age of this error.'
    // Redacted here and not by the error: the message and the error's code are redacted already.
    return new StepUpError(redactedStepUp(stepUp, secrets), details, `${message} ${cure}`)
  }
  return new TokenError(kind, `${message} ${cureOf(kind, error, status, context)}`, details)
}

function redactedStepUp(stepUp: StepUp, secrets: readonly string[]): StepUp {
  const { acrValues, claims, scope } = stepUp
  return {
    ...stepUp,
    ...(acrValues !== undefined && { acrValues: redact(acrValues, secrets) }),
    ...(claims !== undefined && { claims: redact(claims, secrets) }),
    ...(scope !== undefined && { scope: redact(scope, secrets) }),
  }
}

/** An error response, as it is judged. */
interface ErrorResponse {
  /** The code as the server sent it. */
  readonly code: string
  /** The code with secrets redacted. */
  readonly error: string
  readonly fields: JsonObject
  readonly status: number
  readonly secrets: readonly string[]
}

/**
 * Decides which thing an error response concerns: the grant, the moment, the user's next step, one need, the client, or another
 * thing. The grant ends only if the response is known to concern it.
 */
function judge(
  { code, error, fields, status, secrets }: ErrorResponse,
  { refresh }: ResponseContext,
): { kind: TokenErrorCode; stepUp?: StepUp } {
  const isGrantEnded = refresh?.isGrantEnded
  const decided = isGrantEnded && askIsGrantEnded(isGrantEnded, { status, body: fields, error }, secrets)
  if (decided) return { kind: 'ERR_REAUTHENTICATION_REQUIRED' }
  const isRefresh = refresh !== undefined
  if (isTemporary(status, code, fields, isRefresh)) return { kind: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE' }
  const stepUp = stepUpIn(code, fields)
  if (stepUp) return { kind: 'ERR_STEP_UP_REQUIRED', stepUp }
  if (isInvalidGrant(fields) || (isRefresh && isEndOfGrant(status, fields))) {
    return {
      kind: decided === false ? 'ERR_TOKEN_ENDPOINT_UNAVAILABLE' : 'ERR_REAUTHENTICATION_REQUIRED',
    }
  }
  if (refresh?.namesNeed && NEED_CODES.has(code)) return { kind: 'ERR_INSUFFICIENT_SCOPE' }
  return { kind: CLIENT_CODES.has(code) ? 'ERR_CLIENT_REJECTED' : 'ERR_TOKEN_ENDPOINT' }
}

function cureOf(kind: TokenErrorCode, error: string, status: number, { refresh }: ResponseContext): string {
  if (kind === 'ERR_REAUTHENTICATION_REQUIRED') return 'Send the user to the login.'
  if (kind === 'ERR_TOKEN_ENDPOINT_UNAVAILABLE') return TRY_LATER
  if (kind === 'ERR_INSUFFICIENT_SCOPE')
    return "This user's login does not cover the requested scope, resource or audience. Request it at the login."
  if (refresh && NEED_CODES.has(error)) {
    return (
      'The caller named neither a scope nor a resource, so check the option refreshParameters, and what the client is ' +
      'registered for.'
    )
  }
  const known = CURES.get(error) ?? (kind === 'ERR_CLIENT_REJECTED' ? CHECK_CLIENT : undefined)
  if (known === undefined && status === 404) return CHECK_URL
  return known ?? "See the authorization server's documentation or log."
}

/** Reads `Retry-After` in milliseconds: seconds or an HTTP date (RFC 9110 §10.2.3), an hour at most. */
function retryAfterMs(header: string | undefined, now: number): number | undefined {
  if (header === undefined) return undefined
  const ms = /^\d+$/.test(header.trim()) ? Number(header) * 1000 : Date.parse(header) - now
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS)
}

/**
 * Whether a body is the beginning of a JSON object. The connection to the server, or to one behind it, was closed early: without a
 * length, as after decompression, nothing else tells.
 */
function isCutOff({ body }: HttpResponse): boolean {
  const text = 'text' in body ? body.text.trim() : ''
  return text.startsWith('{') && !text.endsWith('}')
}

function flawOf({ body }: HttpResponse, fields?: JsonObject): string {
  if ('flaw' in body) return body.flaw
  if (body.text.trim() === '') return 'is empty'
  return fields ? 'has no error code' : 'is neither a JSON object nor a form'
}

/**
 * Describes a body without an error code for the operator: by the names of its fields, or by its content type. No value is shown,
 * since it may be a token.
 */
function contentOf(
  response: HttpResponse,
  fields: JsonObject | undefined,
  { secrets }: ResponseContext,
): string {
  const names = Object.keys(fields ?? {}).join(', ')
  const content = names === '' ? response.header('content-type') : `the fields ${names}`
  return content === undefined ? '' : ` (${safeExcerpt(content, secrets(), MAX_CONTENT_LENGTH)})`
}

function invalidResponse(message: string, details: string): TokenError {
  return new TokenError('ERR_INVALID_TOKEN_RESPONSE', message, { details })
}

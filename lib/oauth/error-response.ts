import {
  type StepUp,
  StepUpError,
  TokenError,
  type TokenErrorCode,
  type TokenErrorDetails,
} from '../errors.js'
import { redact } from '../redact.js'
import { isEndOfGrant } from './ended-grants.js'
import { type ErrorSaid, errorIn, isInvalidGrant } from './error-code.js'
import { type Fields, fieldsOfBody } from './fields.js'
import { shownText } from './foreign-text.js'
import { askIsGrantEnded, type IsGrantEnded } from './grant-ended-option.js'
import type { HttpAnswer } from './http.js'
import { INTERACTION_CODES, interactionIn } from './interaction.js'
import { tokensIn } from './redacted-body.js'
import { isTemporary } from './temporary-refusals.js'

/** No caller should wait for longer than an hour: a longer Retry-After is cut. */
const MAX_RETRY_AFTER_MS = 60 * 60 * 1000
const MAX_ERROR_LENGTH = 64
const MAX_DESCRIPTION_LENGTH = 500

const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308]
/** RFC 6749 §5.2, and what GitHub and Slack say instead. */
const CLIENT_CODES: ReadonlySet<string> = new Set([
  ...['invalid_client', 'unauthorized_client'],
  ...['incorrect_client_credentials', 'bad_client_secret', 'invalid_client_id'],
])
/** RFC 6749 §5.2, RFC 8707 §2; the last one is Entra ID's word for an API that it does not know. */
const NEED_CODES: ReadonlySet<string> = new Set(['invalid_scope', 'invalid_target', 'invalid_resource'])

const CHECK_URL = 'Check the URL, and the proxies on the way.'
const CHECK_CLIENT = 'Check clientId and clientAuthentication.'
const TRY_LATER = 'Try again later.'

/**
 * What to do about the error codes of RFC 6749 §5.2, RFC 7009 §2.2.1 and RFC 8707 §2. These are shown whatever the
 * secrets are.
 */
const CURES = new Map([
  ['invalid_request', 'Check the parameters that were sent.'],
  ['invalid_client', CHECK_CLIENT],
  ['invalid_grant', 'Send the user to the login.'],
  ['unauthorized_client', 'Allow the client this grant type at the authorization server.'],
  ['unsupported_grant_type', 'Allow this grant type at the authorization server.'],
  ['unsupported_token_type', 'Use clear() to log out here alone.'],
  ['invalid_scope', 'Check the scope that was asked for.'],
  ['invalid_target', 'Check the resource that was asked for.'],
  ['temporarily_unavailable', TRY_LATER],
  ['server_error', TRY_LATER],
])

/** What a response is judged by. */
export interface ResponseContext {
  /** Names the endpoint in messages, e.g. `The token endpoint https://idp.example.com/token`. */
  readonly what: string
  /** Strings that no error may show: they are taken out of what the server says. */
  readonly secrets: readonly string[]
  /** Milliseconds since the epoch. */
  readonly now: number
  /** What is known of the refresh that was asked for, if it was one. */
  readonly refresh?: RefreshAsked
}

/** What a refresh was asked with, as far as its refusal is judged by it. */
export interface RefreshAsked {
  /** Whether the caller named a scope, a resource or an audience: a refusal of these is about that need alone. */
  readonly namesNeed: boolean
  readonly isGrantEnded?: IsGrantEnded
}

/** Whether the server is overloaded, out of order or being restarted: nothing to do with what it was asked. */
export function isUnavailable({ status }: HttpAnswer): boolean {
  return status >= 500 || status === 429 || status === 408
}

/** The error for a response that says to come again later. */
export function unavailableError(
  response: HttpAnswer,
  { what, now }: Pick<ResponseContext, 'what' | 'now'>,
): TokenError {
  return new TokenError(
    'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    `${what} answered ${response.status}. ${TRY_LATER}`,
    {
      responseStatus: response.status,
      retryAfterMs: retryAfterMs(response.header('retry-after'), now),
    },
  )
}

/** The fields of a response's body, JSON or form. */
export function fieldsOf({ body }: HttpAnswer): Fields | undefined {
  return 'text' in body ? fieldsOfBody(body.text) : undefined
}

export function isSuccess({ status }: HttpAnswer): boolean {
  return status >= 200 && status < 300
}

/**
 * The error for a response that is not a success (RFC 6749 §5.2). An error code is believed from a JSON object or a form,
 * with any status below 500: what a broken proxy says ends no session.
 */
export function errorOfResponse(response: HttpAnswer, context: ResponseContext): TokenError {
  const { status } = response
  const { what } = context
  if (isUnavailable(response)) return unavailableError(response, context)
  if (REDIRECTS.includes(status)) {
    return invalidResponse(
      `${what} answered with a redirect (${status}), which is not followed. Give the URL that it leads to.`,
    )
  }
  const fields = fieldsOf(response)
  const said = fields && errorIn(fields, true)
  if (said) return refusal(said, fields, response, context)
  if (status === 401 && !fields && response.header('www-authenticate') !== undefined) {
    return new TokenError(
      'ERR_CLIENT_REJECTED',
      `${what} refused the client authentication (401). ${CHECK_CLIENT}`,
    )
  }
  return invalidResponse(`${what} answered ${status}, and its body ${flawOf(response)}. ${CHECK_URL}`)
}

/**
 * The error that a response with a success status tells all the same, as those of GitHub, Slack and TikTok do; `undefined`
 * if it tells none.
 */
export function errorOfSuccess(
  response: HttpAnswer,
  fields: Fields,
  context: ResponseContext,
): TokenError | undefined {
  const said = errorIn(fields, false)
  return said && refusal(said, fields, response, context)
}

/** The error for a success whose body is of no use. */
export function unreadableError(response: HttpAnswer, { what }: ResponseContext): TokenError {
  return invalidResponse(
    `${what} answered ${response.status}, but its body ${flawOf(response)}. ${CHECK_URL}`,
  )
}

function refusal(
  { code, description }: ErrorSaid,
  fields: Fields,
  response: HttpAnswer,
  context: ResponseContext,
): TokenError {
  const { secrets, now, what } = context
  const { status } = response
  const hidden = [...secrets, ...tokensIn(fields)]
  const isKnown = CURES.has(code) || INTERACTION_CODES.has(code)
  const error = isKnown ? code : shownText(code, hidden, MAX_ERROR_LENGTH)
  const errorDescription =
    description === undefined ? '' : shownText(description, hidden, MAX_DESCRIPTION_LENGTH)
  const details: TokenErrorDetails = {
    error,
    ...(errorDescription !== '' && { errorDescription }),
    retryAfterMs: retryAfterMs(response.header('retry-after'), now),
  }
  const answered = `${what} answered ${error}${errorDescription && `: "${errorDescription}"`}.`
  const { kind, stepUp } = kindOf({ code, error, fields, status, hidden }, context)
  if (stepUp) {
    const message = `${answered} Send the user to the login, with the claims, acr_values and max_age of this error.`
    return new StepUpError(shownStepUp(stepUp, hidden), details, message)
  }
  return new TokenError(kind, `${answered} ${cureOf(kind, error, status, context)}`, details)
}

/** What is asked of the user, byte for byte but for secrets. The error's code has been looked through already. */
function shownStepUp(stepUp: StepUp, hidden: readonly string[]): StepUp {
  const { acrValues, claims, scope } = stepUp
  return {
    ...stepUp,
    ...(acrValues !== undefined && { acrValues: redact(acrValues, hidden) }),
    ...(claims !== undefined && { claims: redact(claims, hidden) }),
    ...(scope !== undefined && { scope: redact(scope, hidden) }),
  }
}

/** A refusal, as it is judged. */
interface Refused {
  /** The code as the server sent it. */
  readonly code: string
  /** The code as it may be shown. */
  readonly error: string
  readonly fields: Fields
  readonly status: number
  readonly hidden: readonly string[]
}

/**
 * What a refusal is about: the grant, the moment, the user's next step, one need, the client, or something else. What is
 * not known to be about the grant ends none.
 */
function kindOf(
  { code, error, fields, status, hidden }: Refused,
  { refresh }: ResponseContext,
): { kind: TokenErrorCode; stepUp?: StepUp } {
  const { isGrantEnded, namesNeed = false } = refresh ?? {}
  const told = isGrantEnded && askIsGrantEnded(isGrantEnded, { status, body: fields, error }, hidden)
  if (told) return { kind: 'ERR_REAUTHENTICATION_REQUIRED' }
  const isRefresh = refresh !== undefined
  if (isTemporary(status, code, fields, isRefresh)) return { kind: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE' }
  const stepUp = interactionIn(code, fields)
  if (stepUp) return { kind: 'ERR_STEP_UP_REQUIRED', stepUp }
  if (isInvalidGrant(fields) || (isRefresh && isEndOfGrant(status, fields))) {
    return { kind: told === false ? 'ERR_TOKEN_ENDPOINT_UNAVAILABLE' : 'ERR_REAUTHENTICATION_REQUIRED' }
  }
  if (namesNeed && NEED_CODES.has(code)) return { kind: 'ERR_INSUFFICIENT_SCOPE' }
  return { kind: CLIENT_CODES.has(code) ? 'ERR_CLIENT_REJECTED' : 'ERR_TOKEN_ENDPOINT' }
}

function cureOf(kind: TokenErrorCode, error: string, status: number, { refresh }: ResponseContext): string {
  if (kind === 'ERR_REAUTHENTICATION_REQUIRED') return 'Send the user to the login.'
  if (kind === 'ERR_TOKEN_ENDPOINT_UNAVAILABLE') return TRY_LATER
  if (kind === 'ERR_INSUFFICIENT_SCOPE') return "This user's login does not cover it. Ask for it at login."
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

/** `Retry-After` in milliseconds: seconds or an HTTP date (RFC 9110 §10.2.3), an hour at most. */
function retryAfterMs(header: string | undefined, now: number): number | undefined {
  if (header === undefined) return undefined
  const ms = /^\d+$/.test(header.trim()) ? Number(header) * 1000 : Date.parse(header) - now
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS)
}

function flawOf(response: HttpAnswer): string {
  const { body } = response
  if ('flaw' in body) return body.flaw
  if (body.text.trim() === '') return 'is empty'
  return fieldsOf(response) ? 'has no error code' : 'is not a JSON object, and not a form either'
}

function invalidResponse(message: string): TokenError {
  return new TokenError('ERR_INVALID_TOKEN_RESPONSE', message)
}

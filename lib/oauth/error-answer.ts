import { TokenError } from '../errors.js'
import { shownText } from './foreign-text.js'
import type { HttpAnswer } from './http.js'
import { type Fields, isFields, secretsOfAnswer } from './token-response.js'

/** An answer nobody should wait for longer than an hour is not believed. */
const MAX_RETRY_AFTER_MS = 60 * 60 * 1000
const MAX_ERROR_LENGTH = 64
const MAX_DESCRIPTION_LENGTH = 500

/** Those of RFC 6749 §4.1.2.1 that stand for a 503 and a 500, and that some servers send with a 4xx status. */
const UNAVAILABLE = new Set(['temporarily_unavailable', 'server_error'])

const CHECK_URL = 'Check the URL, and the proxies on the way.'
const CHECK_CLIENT = 'Check clientId and clientAuthentication.'

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
  ['temporarily_unavailable', 'Try again later.'],
  ['server_error', 'Try again later.'],
])

/** What an answer is judged by. */
export interface AnswerContext {
  /** Names the endpoint in messages, e.g. `The token endpoint https://idp.example.com/token`. */
  readonly what: string
  /** Strings that no error may show: they are taken out of what the server says. */
  readonly secrets: readonly string[]
  /** Milliseconds since the epoch. */
  readonly now: number
}

/** Whether the server is overloaded, out of order or being restarted: nothing to do with what it was asked. */
export function isUnavailable({ status }: HttpAnswer): boolean {
  return status >= 500 || status === 429 || status === 408
}

/** The error for an answer that says to come again later. */
export function unavailableError(
  answer: HttpAnswer,
  { what, now }: Pick<AnswerContext, 'what' | 'now'>,
): TokenError {
  return new TokenError(
    'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    `${what} answered ${answer.status}. Try again later.`,
    {
      responseStatus: answer.status,
      retryAfterMs: retryAfterMs(answer.header('retry-after'), now),
    },
  )
}

/**
 * The error for an answer that is not a success (RFC 6749 §5.2). An OAuth error code is believed only from a JSON
 * answer with a 4xx status: what a broken proxy says ends nobody's session.
 */
export function errorOfAnswer(answer: HttpAnswer, context: AnswerContext): TokenError {
  const { status } = answer
  const { what } = context
  if (isUnavailable(answer)) return unavailableError(answer, context)
  if (status >= 300 && status < 400) {
    return invalidAnswer(
      `${what} answered with a redirect (${status}), which is not followed. Give the URL that it leads to.`,
    )
  }
  const fields = 'text' in answer.body ? jsonObject(answer.body.text) : undefined
  if (fields && typeof fields.error === 'string' && fields.error !== '') {
    return oauthError(fields, answer, context)
  }
  if (status === 401 && !fields && answer.header('www-authenticate') !== undefined) {
    return new TokenError(
      'ERR_CLIENT_REJECTED',
      `${what} refused the client authentication (401). ${CHECK_CLIENT}`,
    )
  }
  return invalidAnswer(`${what} answered ${status}, and its body ${flawOf(answer, fields)}. ${CHECK_URL}`)
}

/** The fields of an answer's body. Throws `ERR_INVALID_TOKEN_RESPONSE` when it is not a JSON object. */
export function fieldsOfAnswer(answer: HttpAnswer, { what }: AnswerContext): Fields {
  const fields = 'text' in answer.body ? jsonObject(answer.body.text) : undefined
  if (fields) return fields
  throw invalidAnswer(
    `${what} answered ${answer.status}, but its body ${flawOf(answer, fields)}. ${CHECK_URL}`,
  )
}

function oauthError(fields: Fields, answer: HttpAnswer, { what, secrets, now }: AnswerContext): TokenError {
  const hidden = [...secrets, ...secretsOfAnswer(fields)]
  const said = String(fields.error)
  const error = CURES.has(said) ? said : shownText(said, hidden, MAX_ERROR_LENGTH)
  const description =
    typeof fields.error_description === 'string'
      ? shownText(fields.error_description, hidden, MAX_DESCRIPTION_LENGTH)
      : ''
  const quoted = description && `: "${description}"`
  const cure = CURES.get(error) ?? "See the authorization server's documentation or log."
  return new TokenError(codeOf(error), `${what} answered ${error}${quoted}. ${cure}`, {
    error,
    ...(description !== '' && { errorDescription: description }),
    retryAfterMs: retryAfterMs(answer.header('retry-after'), now),
  })
}

function codeOf(error: string) {
  if (error === 'invalid_grant') return 'ERR_REAUTHENTICATION_REQUIRED'
  if (error === 'invalid_client' || error === 'unauthorized_client') return 'ERR_CLIENT_REJECTED'
  return UNAVAILABLE.has(error) ? 'ERR_TOKEN_ENDPOINT_UNAVAILABLE' : 'ERR_TOKEN_ENDPOINT'
}

/** `Retry-After` in milliseconds: seconds or an HTTP date (RFC 9110 §10.2.3), an hour at most. */
function retryAfterMs(header: string | undefined, now: number): number | undefined {
  if (header === undefined) return undefined
  const ms = /^\d+$/.test(header.trim()) ? Number(header) * 1000 : Date.parse(header) - now
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS)
}

function jsonObject(text: string): Fields | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return isFields(value) ? value : undefined
  } catch {
    // The parser's message quotes the text, and the text may hold tokens.
    return undefined
  }
}

function flawOf({ body }: HttpAnswer, fields: Fields | undefined): string {
  if ('flaw' in body) return body.flaw
  if (body.text.trim() === '') return 'is empty'
  return fields ? 'has no error code' : 'is not a JSON object'
}

function invalidAnswer(message: string): TokenError {
  return new TokenError('ERR_INVALID_TOKEN_RESPONSE', message)
}

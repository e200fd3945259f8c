import { redact, TokenError } from '../errors.js'
import type { HttpAnswer } from './http.js'
import { type Fields, isFields, secretsOfAnswer } from './token-response.js'

/** An answer nobody should wait for longer than an hour is not believed. */
const MAX_RETRY_AFTER_MS = 60 * 60 * 1000
const MAX_ERROR_LENGTH = 64
const MAX_DESCRIPTION_LENGTH = 500

/** Those of RFC 6749 §4.1.2.1 that stand for a 503 and a 500, and that some servers send with a 4xx status. */
const UNAVAILABLE = new Set(['temporarily_unavailable', 'server_error'])

/** The error codes of RFC 6749 §5.2, RFC 7009 §2.2.1 and RFC 8707 §2. They are shown whatever the secrets are. */
const CODES = new Set([
  'invalid_request',
  'invalid_client',
  'invalid_grant',
  'unauthorized_client',
  'unsupported_grant_type',
  'unsupported_token_type',
  'invalid_scope',
  'invalid_target',
  ...UNAVAILABLE,
])

/** What an answer is judged by. */
export interface AnswerContext {
  /** Names the endpoint in messages, e.g. `The token endpoint https://idp.example.com/token`. */
  readonly what: string
  /** Strings that no error may show. */
  readonly secrets: readonly string[]
  /** Milliseconds since the epoch. */
  readonly now: number
}

/** Whether the server is overloaded, out of order or being restarted: nothing to do with what it was asked. */
export function isUnavailable({ status }: HttpAnswer): boolean {
  return status >= 500 || status === 429 || status === 408
}

/** The error for an answer that says to come again later. */
export function unavailableError(answer: HttpAnswer, { what, secrets, now }: AnswerContext): TokenError {
  return new TokenError('ERR_TOKEN_ENDPOINT_UNAVAILABLE', `${what} answered ${answer.status}`, {
    secrets,
    retryAfterMs: retryAfterMs(answer.header('retry-after'), now),
  })
}

/**
 * The error for an answer that is not a success (RFC 6749 §5.2). An OAuth error code is believed only from a JSON
 * answer with a 4xx status: what a broken proxy says ends nobody's session.
 */
export function errorOfAnswer(answer: HttpAnswer, context: AnswerContext): TokenError {
  const { status } = answer
  const { what, secrets } = context
  if (isUnavailable(answer)) return unavailableError(answer, context)
  if (status >= 300 && status < 400) {
    return invalidAnswer(`${what} answered with a redirect (${status}), which is not followed`, secrets)
  }
  const fields = 'text' in answer.body ? jsonObject(answer.body.text) : undefined
  if (fields && typeof fields.error === 'string' && fields.error !== '') {
    return oauthError(fields, answer, context)
  }
  if (status === 401 && !fields && answer.header('www-authenticate') !== undefined) {
    return new TokenError('ERR_CLIENT_REJECTED', `${what} refused the client authentication (401)`, {
      secrets,
    })
  }
  return invalidAnswer(`${what} answered ${status}, and its body ${flawOf(answer, fields)}`, secrets)
}

/** The fields of an answer's body. Throws `ERR_INVALID_TOKEN_RESPONSE` when it is not a JSON object. */
export function fieldsOfAnswer(answer: HttpAnswer, { what, secrets }: AnswerContext): Fields {
  const fields = 'text' in answer.body ? jsonObject(answer.body.text) : undefined
  if (fields) return fields
  throw invalidAnswer(`${what} answered ${answer.status}, but its body ${flawOf(answer, fields)}`, secrets)
}

/** A text of the server's as messages may show it: without secrets, printable, bounded. */
export function shownText(text: string, secrets: readonly string[], maxLength: number): string {
  // Redacted before it is cut, because half a secret would not be recognised.
  const clean = redact(text, secrets)
    .replace(/[^\x20-\x7e]+/g, ' ')
    .trim()
  return clean.length > maxLength ? `${clean.slice(0, maxLength)}…` : clean
}

/** Secrets in the order to redact them: one that is part of another must not leave the rest of it standing. */
export function longestFirst(secrets: readonly string[]): string[] {
  return [...new Set(secrets)].sort((a, b) => b.length - a.length)
}

function oauthError(fields: Fields, answer: HttpAnswer, { what, secrets, now }: AnswerContext): TokenError {
  const hidden = longestFirst([...secrets, ...secretsOfAnswer(fields)])
  const said = String(fields.error)
  const error = CODES.has(said) ? said : shownText(said, hidden, MAX_ERROR_LENGTH)
  const description =
    typeof fields.error_description === 'string'
      ? shownText(fields.error_description, hidden, MAX_DESCRIPTION_LENGTH)
      : ''
  const message = `${what} answered ${error}${description && `: ${description}`}`
  return new TokenError(codeOf(error), message, {
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

function invalidAnswer(message: string, secrets: readonly string[]): TokenError {
  return new TokenError('ERR_INVALID_TOKEN_RESPONSE', message, { secrets })
}

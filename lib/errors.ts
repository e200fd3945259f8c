import { ownProperties } from './own-properties.js'
import { redact } from './redact.js'

/** Every kind of {@link TokenError}. The codes are stable; branch on them rather than on messages. */
export type TokenErrorCode =
  | 'ERR_CONFIGURATION'
  | 'ERR_NO_TOKENS'
  | 'ERR_REAUTHENTICATION_REQUIRED'
  | 'ERR_INSUFFICIENT_SCOPE'
  | 'ERR_CLIENT_REJECTED'
  | 'ERR_TOKEN_ENDPOINT'
  | 'ERR_TOKEN_ENDPOINT_UNAVAILABLE'
  | 'ERR_INVALID_TOKEN_RESPONSE'
  | 'ERR_GRANT_STORE'
  | 'ERR_SESSION_STORE'
  | 'ERR_HEADERS_SENT'
  | 'ERR_SESSION_TOO_LARGE'
  | 'ERR_ORIGIN_NOT_ALLOWED'
  | 'ERR_STEP_UP_REQUIRED'

const KINDS: Record<TokenErrorCode, { status: number; retryable: boolean }> = {
  ERR_CONFIGURATION: { status: 500, retryable: false },
  ERR_NO_TOKENS: { status: 401, retryable: false },
  ERR_REAUTHENTICATION_REQUIRED: { status: 401, retryable: false },
  ERR_INSUFFICIENT_SCOPE: { status: 403, retryable: false },
  ERR_CLIENT_REJECTED: { status: 500, retryable: false },
  ERR_TOKEN_ENDPOINT: { status: 502, retryable: false },
  ERR_TOKEN_ENDPOINT_UNAVAILABLE: { status: 503, retryable: true },
  ERR_INVALID_TOKEN_RESPONSE: { status: 502, retryable: false },
  ERR_GRANT_STORE: { status: 503, retryable: true },
  ERR_SESSION_STORE: { status: 503, retryable: true },
  ERR_HEADERS_SENT: { status: 500, retryable: false },
  ERR_SESSION_TOO_LARGE: { status: 500, retryable: false },
  ERR_ORIGIN_NOT_ALLOWED: { status: 500, retryable: false },
  ERR_STEP_UP_REQUIRED: { status: 401, retryable: false },
}

/** What a {@link TokenError} may carry besides its code and message. */
export interface TokenErrorDetails {
  /** The failure underneath. Only its name, code and message are kept, see {@link TokenError.cause}. */
  cause?: unknown
  /**
   * `false` leaves the message of the cause out. For those who may put anything into it: the secrets of others, which
   * nobody here knows, so that no list of `secrets` takes them out. Default: `true`.
   */
  causeMessage?: boolean
  /**
   * Strings that must not appear in what others said: in `cause`, `error` and `errorDescription` they are replaced by
   * `[redacted]`. The message is kept as it is, so it must hold nothing of what others said.
   */
  secrets?: readonly string[]
  /** How long the server asked to be left alone, in milliseconds. */
  retryAfterMs?: number | undefined
  /** The HTTP status of the authorization server's response. */
  responseStatus?: number | undefined
  /** The `error` code of an OAuth error answer (RFC 6749 §5.2). */
  error?: string | undefined
  /** The `error_description` of an OAuth error answer (RFC 6749 §5.2). */
  errorDescription?: string | undefined
}

/**
 * The one error class of this library.
 *
 * It holds no token, secret or assertion in any property, so it can be logged as it is. `status` is the HTTP
 * status that Express and Koa answer with when the error reaches them; `expose` is `false`, so the message
 * stays on the server.
 */
export class TokenError extends Error {
  /** What went wrong, for programs. */
  readonly code: TokenErrorCode
  /** The HTTP status for an answer that fails because of this error. */
  readonly status: number
  /** Always `false`: the message is meant for the operator, not for the browser. */
  readonly expose = false
  /** Whether the same call may succeed later without anyone changing anything. */
  readonly retryable: boolean
  /** Milliseconds to wait before the next try, when the server said so (`Retry-After`). */
  declare readonly retryAfterMs?: number
  /** The HTTP status of the authorization server's response, when it said that it is unavailable. */
  declare readonly responseStatus?: number
  /** The authorization server's `error` code, when it sent one (RFC 6749 §5.2). */
  declare readonly error?: string
  /** The authorization server's `error_description`, when it sent one, with secrets taken out. */
  declare readonly errorDescription?: string

  constructor(code: TokenErrorCode, message: string, details: TokenErrorDetails = {}) {
    const own = ownProperties(details)
    const secrets = own.secrets ?? []
    const { causeMessage = true } = own
    const cause = own.cause === undefined ? undefined : bareError(own.cause, secrets, causeMessage)
    super(message, cause && { cause })
    this.name = 'TokenError'
    this.code = code
    this.status = KINDS[code].status
    this.retryable = KINDS[code].retryable
    if (own.retryAfterMs !== undefined) this.retryAfterMs = own.retryAfterMs
    if (own.responseStatus !== undefined) this.responseStatus = own.responseStatus
    if (own.error !== undefined) this.error = redact(own.error, secrets)
    if (own.errorDescription !== undefined) {
      this.errorDescription = redact(own.errorDescription, secrets)
    }
  }
}

/** A mistake in the options or in how the middleware is mounted. The message says what to change. */
export class ConfigurationError extends TokenError {
  constructor(message: string, details: TokenErrorDetails = {}) {
    super('ERR_CONFIGURATION', message, details)
    this.name = 'ConfigurationError'
  }
}

/** What an API, or the authorization server, asks of the next login (RFC 9470 §3). */
export interface StepUp {
  /** The authentication context classes it would take, in order of preference, separated by spaces: `acr_values`. */
  acrValues?: string
  /** How long ago the user may have logged in at most, in seconds as on the wire: `max_age`. */
  maxAge?: number
  /** The scopes it asks for as well, separated by spaces. */
  scope?: string
  /** The claims it asks for, as JSON: `claims` (OpenID Connect Core §5.5), such as a claims challenge of Entra ID. */
  claims?: string
}

/**
 * The user has to take part in the next step: an API takes the token only after a stronger or a more recent login
 * (`insufficient_user_authentication`, RFC 9470; `insufficient_claims`), or the authorization server issues a token for
 * this need only after one (`interaction_required` and its kin). Send the user to the login with `acrValues` as
 * `acr_values`, `maxAge` as `max_age` and `claims` as `claims`. The other tokens of the session stay as they are.
 */
export class StepUpError extends TokenError implements StepUp {
  /** Values for the `acr_values` of the next authorization request. */
  declare readonly acrValues?: string
  /** The `max_age` of the next authorization request, in seconds. */
  declare readonly maxAge?: number
  /** Scopes for the next authorization request. */
  declare readonly scope?: string
  /** The `claims` of the next authorization request, as JSON. */
  declare readonly claims?: string

  /** @param details `secrets` are taken out of `acrValues`, `scope` and `claims` as well */
  constructor(
    stepUp: StepUp,
    details: TokenErrorDetails = {},
    message = 'The API asks for a stronger or a more recent login. Send the user to the login with the acr_values, the max_age and the claims of this error.',
  ) {
    super('ERR_STEP_UP_REQUIRED', message, details)
    this.name = 'StepUpError'
    const { secrets = [] } = details
    const { acrValues, maxAge, scope, claims } = stepUp
    if (acrValues !== undefined) this.acrValues = redact(acrValues, secrets)
    if (maxAge !== undefined) this.maxAge = maxAge
    if (scope !== undefined) this.scope = redact(scope, secrets)
    if (claims !== undefined) this.claims = redact(claims, secrets)
  }
}

/**
 * An error that is kept for later. Until its stack is asked for, V8 holds on to all objects whose methods were running when
 * it was made, and to their tokens.
 */
export function keptError(error: TokenError): TokenError {
  for (let one: unknown = error; one instanceof Error; one = one.cause) void one.stack
  return error
}

/** Whether a failure is that nobody is logged in, or not any more. */
export function isNobody(error: unknown): boolean {
  if (!(error instanceof TokenError)) return false
  return error.code === 'ERR_NO_TOKENS' || error.code === 'ERR_REAUTHENTICATION_REQUIRED'
}

const NO_MESSAGE = '(message left out, as it may hold tokens)'

/**
 * A copy of an error that is safe to keep: name, code and message, nothing else.
 *
 * The errors of HTTP clients and stores carry requests, headers and rows, and those carry tokens.
 */
export function bareError(error: unknown, secrets: readonly string[], withMessage: boolean): Error {
  if (error instanceof TokenError) return error
  const source = (typeof error === 'object' && error !== null ? error : { message: String(error) }) as {
    name?: unknown
    code?: unknown
    message?: unknown
  }
  const bare = new Error(withMessage ? redact(String(source.message ?? ''), secrets) : NO_MESSAGE)
  bare.name = redact(String(source.name ?? 'Error'), secrets)
  // The stack of the copy would only show this function.
  bare.stack = `${bare.name}: ${bare.message}`
  if (typeof source.code === 'string') Object.assign(bare, { code: redact(source.code, secrets) })
  return bare
}

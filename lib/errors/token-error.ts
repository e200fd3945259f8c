import { redact, redactCode } from './redact.js'

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

/** The grant stores that processes share, as error messages name them. */
export const SHARED_GRANT_STORES = 'redisGrantStore(client) or postgresGrantStore(pool)'

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

/** The details of a {@link TokenError} besides its code and message. */
export interface TokenErrorDetails {
  /** The failure that led to this error. Only its name, code and message are kept, see {@link TokenError.cause}. */
  cause?: unknown
  /**
   * `false` leaves out the message of the cause. It is for causes whose message may hold unknown secrets, such as those of
   * another request, which no list of `secrets` covers. Default: `true`.
   */
  causeMessage?: boolean
  /**
   * Strings that are replaced by `[redacted]` in `cause`, `error` and `errorDescription`, which come from outside. The
   * message is kept as it is, so it must hold no text from outside.
   */
  secrets?: readonly string[]
  /** The time after which the server allows another request, in milliseconds. */
  retryAfterMs?: number | undefined
  /** The HTTP status of the authorization server's response. */
  responseStatus?: number | undefined
  /** The `error` code of an OAuth error response (RFC 6749 §5.2). */
  error?: string | undefined
  /** The `error_description` of an OAuth error response (RFC 6749 §5.2). */
  errorDescription?: string | undefined
  /** Why the grant has ended, in the words of `EndReason`. */
  reason?: string | undefined
  /** A text for the operator alone, such as the URL of an endpoint. It must hold no secret. */
  details?: string | undefined
}

/**
 * The class of every error of this library.
 *
 * It holds no token, secret or assertion in any property, so it can be logged as it is. Express and Koa respond with the HTTP
 * status in `status` when the error reaches them, Fastify and Nest with the same in `statusCode`. `tokenErrors()` responds with a
 * problem body. The message names no endpoint and quotes no server, since some frameworks show it to the browser: `details` does,
 * and so does the first line of `stack`.
 */
export class TokenError extends Error {
  /** The kind of the error. It is stable, so branch on it. */
  readonly code: TokenErrorCode
  /** The HTTP status for a response to a request that fails with this error. */
  readonly status: number
  /** Always `false`: the message is for the developer, not for the browser. */
  readonly expose = false
  /** Whether the same call may succeed later without any change. */
  readonly retryable: boolean
  /** The time to wait before the next attempt, in milliseconds, if the server sent one (`Retry-After`). */
  declare readonly retryAfterMs?: number
  /** The HTTP status of the authorization server's response, if it was unavailable. */
  declare readonly responseStatus?: number
  /** The authorization server's `error` code, if it sent one (RFC 6749 §5.2). */
  declare readonly error?: string
  /** The authorization server's `error_description`, if it sent one, with secrets redacted. */
  declare readonly errorDescription?: string
  /** Why the grant has ended, if that is known: a word of `EndReason`, such as `logged_out` or `expired`. */
  declare readonly reason?: string
  /** A text for the operator alone, such as the URL of an endpoint and the words of a server, with secrets redacted. */
  declare readonly details?: string

  constructor(code: TokenErrorCode, message: string, details: TokenErrorDetails = {}) {
    // A copy, so that no property is read that the details inherit.
    const own = { __proto__: null, ...details } as typeof details
    const secrets = own.secrets ?? []
    const { causeMessage = true } = own
    const cause = own.cause === undefined ? undefined : sanitizedError(own.cause, secrets, causeMessage)
    const { details: forOperator } = own
    super(forOperator === undefined ? message : `${message} (${forOperator})`, cause && { cause })
    this.name = 'TokenError'
    if (forOperator !== undefined) {
      // A stack keeps the text that it has when it is first read. Logs show it.
      void this.stack
      this.message = message
      this.details = forOperator
    }
    this.code = code
    this.status = KINDS[code].status
    this.retryable = KINDS[code].retryable
    if (own.retryAfterMs !== undefined) this.retryAfterMs = own.retryAfterMs
    if (own.responseStatus !== undefined) this.responseStatus = own.responseStatus
    if (own.reason !== undefined) this.reason = own.reason
    if (own.error !== undefined) this.error = redact(own.error, secrets)
    if (own.errorDescription !== undefined) {
      this.errorDescription = redact(own.errorDescription, secrets)
    }
  }

  /** Returns the `status`, under the name that Fastify, Nest and Hapi look for. */
  get statusCode(): number {
    return this.status
  }
}

/** The error for a mistake in the options, or in how the middleware is mounted. The message says what to change. */
export class ConfigurationError extends TokenError {
  declare readonly code: 'ERR_CONFIGURATION'

  constructor(message: string, details: TokenErrorDetails = {}) {
    super('ERR_CONFIGURATION', message, details)
    this.name = 'ConfigurationError'
  }
}

/** The requirements of an API, or of the authorization server, for the next login (RFC 9470 §3). */
export interface StepUp {
  /** The accepted authentication context classes, in order of preference, separated by spaces: `acr_values`. */
  acrValues?: string
  /** The maximum age of the login, in seconds as on the wire: `max_age`. */
  maxAge?: number
  /** The required scopes, separated by spaces. */
  scope?: string
  /** The required claims, as JSON: `claims` (OpenID Connect Core §5.5), such as a claims challenge of Entra ID. */
  claims?: string
}

/**
 * The error for a step that requires the user. An API accepts the token only after a stronger or a more recent login
 * (`insufficient_user_authentication`, RFC 9470; `insufficient_claims`), or the authorization server issues a token for this
 * need only after such a login (`interaction_required` and similar codes). Send the user to the login with `acrValues` as
 * `acr_values`, `maxAge` as `max_age` and `claims` as `claims`. The other tokens of the session stay as they are.
 */
export class StepUpError extends TokenError implements StepUp {
  declare readonly code: 'ERR_STEP_UP_REQUIRED'
  /** Values for the `acr_values` of the next authorization request. */
  declare readonly acrValues?: string
  /** The `max_age` of the next authorization request, in seconds. */
  declare readonly maxAge?: number
  /** Scopes for the next authorization request. */
  declare readonly scope?: string
  /** The `claims` of the next authorization request, as JSON. */
  declare readonly claims?: string

  /** @param details Its `secrets` are redacted in `acrValues`, `scope` and `claims`, too. */
  constructor(
    stepUp: StepUp,
    details: TokenErrorDetails = {},
    message = 'The API requires a stronger or a more recent login. Send the user to the login with the acr_values, the max_age and the claims of this error.',
  ) {
    super('ERR_STEP_UP_REQUIRED', message, details)
    this.name = 'StepUpError'
    // Copies, so that no property is read that they inherit.
    const { secrets = [] } = { __proto__: null, ...details } as typeof details
    const { acrValues, maxAge, scope, claims } = { __proto__: null, ...stepUp } as StepUp
    if (acrValues !== undefined) this.acrValues = redact(acrValues, secrets)
    if (maxAge !== undefined) this.maxAge = maxAge
    if (scope !== undefined) this.scope = redact(scope, secrets)
    if (claims !== undefined) this.claims = redact(claims, secrets)
  }
}

/**
 * Prepares an error for being kept. Until its stack is read, V8 keeps all objects whose methods were running when the error was
 * made, and their tokens.
 */
export function withoutLiveStack(error: TokenError): TokenError {
  for (let one: unknown = error; one instanceof Error; one = one.cause) void one.stack
  return error
}

/** Whether an error says that no user is logged in, or not any more. */
export function isLoggedOutError(error: unknown): error is TokenError {
  if (!(error instanceof TokenError)) return false
  return error.code === 'ERR_NO_TOKENS' || error.code === 'ERR_REAUTHENTICATION_REQUIRED'
}

/** An error whose message is the library's own, for use as a cause: its message holds no secret and is not redacted. */
export class OwnError extends Error {}

const NO_MESSAGE = '(message left out, as it may hold tokens)'

/**
 * Copies the name, the code and the message of an error, and nothing else.
 *
 * The errors of HTTP clients and stores hold requests, headers and rows, which hold tokens.
 */
export function sanitizedError(error: unknown, secrets: readonly string[], withMessage: boolean): Error {
  if (error instanceof TokenError) return error
  const source = (typeof error === 'object' && error !== null ? error : { message: String(error) }) as {
    name?: unknown
    code?: unknown
    message?: unknown
  }
  const ofMessage = error instanceof OwnError ? [] : secrets
  const bare = new Error(withMessage ? redact(String(source.message ?? ''), ofMessage) : NO_MESSAGE)
  bare.name = redactCode(String(source.name ?? 'Error'), secrets)
  // The stack of the copy would only show this function.
  bare.stack = `${bare.name}: ${bare.message}`
  if (typeof source.code === 'string') Object.assign(bare, { code: redactCode(source.code, secrets) })
  return bare
}

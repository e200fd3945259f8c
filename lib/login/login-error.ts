import { safeExcerpt } from '../errors/redact.js'
import { OwnError, sanitizedError } from '../errors/token-error.js'

/** Why a login did not succeed. The words are stable, so branch on them. */
export type LoginErrorReason =
  | 'unknown'
  | 'used'
  | 'expired'
  | 'denied'
  | 'login_required'
  | 'unmet'
  | 'refused'
  | 'invalid'
  | 'rejected'
  | 'unavailable'

interface Kind {
  readonly status: number
  /** The title of the page that the user gets. */
  readonly title: string
  readonly text: string
  /** The message for the operator, after the reason. */
  readonly why: string
}

const KINDS: Record<LoginErrorReason, Kind> = {
  unknown: {
    status: 400,
    title: 'This login was not begun here',
    text: 'It was begun in another browser, or long ago, or this browser does not keep cookies.',
    why: 'No login that this browser has begun has the state of the callback.',
  },
  used: {
    status: 400,
    title: 'This login is over',
    text: 'Each login can be finished once.',
    why: 'The callback came twice with the same state.',
  },
  expired: {
    status: 400,
    title: 'This login took too long',
    text: 'It was begun more than 15 minutes ago.',
    why: 'The callback came more than 15 minutes after the login had begun.',
  },
  denied: {
    status: 403,
    title: 'The login was cancelled',
    text: 'You are not logged in.',
    why: 'The user has cancelled the login, or the authorization server has denied it.',
  },
  login_required: {
    status: 401,
    title: 'Please log in',
    text: 'You are not logged in.',
    why: 'The authorization server has to ask the user, and was not allowed to (prompt: none).',
  },
  unmet: {
    status: 403,
    title: 'A stronger login is needed',
    text: 'The login was not as strong, or not as recent, as this page requires.',
    why: 'The login at the authorization server does not meet the acr_values or the max_age of the request.',
  },
  refused: {
    status: 403,
    title: 'No access',
    text: 'Your login has succeeded, but it gives no access here.',
    why: 'onLogin has refused the user.',
  },
  invalid: {
    status: 400,
    title: 'The login failed',
    text: 'The response of the login service is not valid.',
    why: 'The response of the authorization server is not valid, or not for this login.',
  },
  rejected: {
    status: 502,
    title: 'The login failed',
    text: 'The login service has rejected the request.',
    why: 'The authorization server has rejected the request.',
  },
  unavailable: {
    status: 503,
    title: 'The login is not available',
    text: 'The login service does not respond. Please try again in a moment.',
    why: 'The authorization server does not respond, or is out of order.',
  },
}

/** The details of a {@link LoginError}. */
export interface LoginErrorDetails {
  /** The failure that led to this error. Its name, its code and its message are kept, without the `secrets`. */
  readonly cause?: unknown
  readonly secrets?: readonly string[]
  /** The `error` in the response of the authorization server (RFC 6749 §4.1.2.1, §5.2). */
  readonly error?: string | undefined
  readonly errorDescription?: string | undefined
  /** The path to which the login was to lead, if it is known. */
  readonly returnTo?: string | undefined
}

const MAX_LENGTH = 200

/**
 * The error of a login that did not succeed. It holds no token, code, verifier or credential of the client, so it can be logged as it
 * is.
 *
 * `onFailure` gets it. Its `status` is that of the page that the user gets.
 */
export class LoginError extends Error {
  readonly reason: LoginErrorReason
  /** The HTTP status of the response. */
  readonly status: number
  /** Always `false`: the message is for the operator, not for the browser. */
  readonly expose = false
  /** The `error` code of the authorization server, if it sent one. */
  declare readonly error?: string
  /** The `error_description` of the authorization server, if it sent one. */
  declare readonly errorDescription?: string
  /** The path to which the login was to lead. The property is not enumerable, so logs do not show the query of the path. */
  declare readonly returnTo?: string

  constructor(reason: LoginErrorReason, details: LoginErrorDetails = {}) {
    const { cause, secrets = [], error, errorDescription, returnTo } = details
    const safe = (text: string) => safeExcerpt(text, secrets, MAX_LENGTH)
    const shown = error === undefined ? reason : `${reason}, ${safe(error)}`
    const why = cause instanceof OwnError ? cause.message : KINDS[reason].why
    super(`The login failed (${shown}). ${why}`, {
      ...(cause !== undefined && { cause: sanitizedError(cause, secrets, true) }),
    })
    this.name = 'LoginError'
    this.reason = reason
    this.status = KINDS[reason].status
    if (error !== undefined) this.error = safe(error)
    if (errorDescription !== undefined) this.errorDescription = safe(errorDescription)
    if (returnTo !== undefined) Object.defineProperty(this, 'returnTo', { value: returnTo })
  }
}

/** Returns the title and the text of the page that the user gets. */
export function wordsFor(reason: LoginErrorReason): Pick<Kind, 'title' | 'text'> {
  return KINDS[reason]
}

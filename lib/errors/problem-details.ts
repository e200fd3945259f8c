import type { StepUp, TokenError, TokenErrorCode } from './token-error.js'

/** A response with a problem body (RFC 9457), which no cache stores. */
export interface ProblemDetails {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/**
 * Makes a response with a problem body.
 *
 * @param more Further members of the body, by their names on the wire.
 */
export function problemDetails(
  status: number,
  title: string,
  detail: string,
  more: object = {},
): ProblemDetails {
  const body = JSON.stringify({ type: 'about:blank', title, status, detail, ...more })
  return {
    status,
    headers: {
      'content-type': 'application/problem+json',
      'content-length': String(Buffer.byteLength(body)),
      'cache-control': 'no-store',
    },
    body,
  }
}

const TITLES: Readonly<Record<number, string>> = {
  401: 'Unauthorized',
  403: 'Forbidden',
  500: 'Internal Server Error',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
}

/** The texts that a page may show its user. The messages of errors are for developers. */
const DETAILS: Partial<Record<TokenErrorCode, string>> = {
  ERR_NO_TOKENS: 'Log in first.',
  ERR_REAUTHENTICATION_REQUIRED: 'Log in again.',
  ERR_STEP_UP_REQUIRED: 'Log in again: a stronger or a more recent login is required.',
  ERR_INSUFFICIENT_SCOPE: 'This login does not permit the request.',
}

/**
 * Makes the response to a request that failed with an error of this library. The body has the `code` of the error. For a
 * `StepUpError` it also has the requirements of the next login, by their names on the wire (RFC 9470 §3). The body shows no
 * message.
 */
export function problemOf(error: TokenError): ProblemDetails {
  const { code, status } = error
  const other = error.retryable ? 'Try again later.' : 'The server could not handle the request.'
  const more = { code, ...(code === 'ERR_STEP_UP_REQUIRED' && stepUpMembers(error)) }
  const problem = problemDetails(status, TITLES[status] ?? 'Error', DETAILS[code] ?? other, more)
  const { retryAfterMs } = ownPropertiesOf(error)
  if (status !== 503 || retryAfterMs === undefined) return problem
  return {
    ...problem,
    headers: { ...problem.headers, 'retry-after': String(Math.ceil(retryAfterMs / 1000)) },
  }
}

function stepUpMembers(error: TokenError & StepUp): object {
  const { acrValues, maxAge, scope, claims } = ownPropertiesOf(error)
  return {
    error: 'insufficient_user_authentication',
    ...(acrValues !== undefined && { acr_values: acrValues }),
    ...(maxAge !== undefined && { max_age: maxAge }),
    ...(scope !== undefined && { scope }),
    ...(claims !== undefined && { claims }),
  }
}

/** Copies an error, so that no property is read that it inherits. */
function ownPropertiesOf<T extends object>(error: T): T {
  return { __proto__: null, ...error } as T
}

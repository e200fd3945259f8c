import * as oidc from 'openid-client'
import { OwnError, TokenError } from '../errors/token-error.js'
import { LoginError, type LoginErrorReason } from './login-error.js'

/** The error codes of an authorization server that had to show a page, and was not allowed to (OpenID Connect Core §3.1.2.6). */
const LOGIN_REQUIRED: readonly string[] = [
  'login_required',
  'interaction_required',
  'consent_required',
  'account_selection_required',
]

const REASONS: Readonly<Record<string, LoginErrorReason>> = {
  __proto__: null as never,
  access_denied: 'denied',
  temporarily_unavailable: 'unavailable',
  server_error: 'unavailable',
  unmet_authentication_requirements: 'unmet',
  invalid_grant: 'invalid',
}

/** Makes a {@link LoginError} of a failure of openid-client. Errors of this library stay as they are. */
export function loginErrorOf(
  error: unknown,
  returnTo: string | undefined,
  secrets: readonly string[] = [],
): Error {
  const own = errorOfThisLibrary(error)
  if (own) return own
  const cause = causesOf(error).find((one) => one instanceof OwnError) ?? error
  const details = { cause, secrets, returnTo }
  if (error instanceof oidc.AuthorizationResponseError || error instanceof oidc.ResponseBodyError) {
    const { error: code, error_description: errorDescription } = error
    const reason = LOGIN_REQUIRED.includes(code) ? 'login_required' : (REASONS[code] ?? 'rejected')
    return new LoginError(isServerError(error) ? 'unavailable' : reason, {
      ...details,
      error: code,
      errorDescription,
    })
  }
  return new LoginError(reasonOf(error), details)
}

function errorOfThisLibrary(error: unknown): TokenError | LoginError | undefined {
  for (let one = error; one instanceof Error; one = one.cause) {
    if (one instanceof TokenError || one instanceof LoginError) return one
  }
  return undefined
}

function isServerError(error: oidc.AuthorizationResponseError | oidc.ResponseBodyError): boolean {
  return error instanceof oidc.ResponseBodyError && isUnavailable(error.status)
}

function isUnavailable(status: number): boolean {
  return status >= 500 || status === 429 || status === 408
}

function reasonOf(error: unknown): LoginErrorReason {
  const chain = causesOf(error)
  if (chain.some(isNoResponse)) return 'unavailable'
  const status = chain.map((one) => (one as { status?: unknown }).status).find(Number.isInteger)
  if (status !== undefined) return isUnavailable(status as number) ? 'unavailable' : 'rejected'
  if (chain.some(isTooOld)) return 'unmet'
  // Of openid-client: the metadata is of another issuer.
  if (chain.some((one) => codeOf(one) === 'OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED')) return 'rejected'
  return error instanceof oidc.ClientError ? 'invalid' : 'rejected'
}

/** Returns an error and its causes. The causes of a failed fetch() may be objects of any kind. */
function causesOf(error: unknown): object[] {
  const chain: object[] = []
  for (let one = error; typeof one === 'object' && one !== null; one = (one as { cause?: unknown }).cause) {
    chain.push(one)
  }
  return chain
}

/** Whether an error of fetch() says that there is no connection, or no response in time. */
function isNoResponse(error: object): boolean {
  const { name, message } = error as Partial<Error>
  return name === 'TimeoutError' || (name === 'TypeError' && message === 'fetch failed')
}

function codeOf(error: object): unknown {
  return (error as { code?: unknown }).code
}

/** Whether the user logged in longer ago than `max_age` allows. */
function isTooOld(cause: object): boolean {
  return (cause as { claim?: unknown }).claim === 'auth_time'
}

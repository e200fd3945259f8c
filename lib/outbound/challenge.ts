import { StepUpError } from '../errors.js'

/** What an API says of the token it was sent: it takes it, wants another one, or wants the user to log in again. */
export type Verdict = 'taken' | 'refused' | StepUpError

/** The parameters of the challenges in a `WWW-Authenticate` header (RFC 9110 §11.6.1), quoted or not. */
const PARAMETER = /([\w!#$%&'*+.^`|~-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))/g

/**
 * Reads a 401's challenge (RFC 6750 §3.1, RFC 9470 §3). A token is refused by `invalid_token`, or when no error is named.
 * Any other error is the app's to see: a new token would not help.
 *
 * @param token the one that was sent, which no error may show
 */
export function verdictOn(status: number, wwwAuthenticate: string, token: string): Verdict {
  if (status !== 401) return 'taken'
  const parameters = parametersOf(wwwAuthenticate)
  const error = parameters.get('error')
  if (error === undefined || error === 'invalid_token') return 'refused'
  return error === 'insufficient_user_authentication' ? stepUp(parameters, token) : 'taken'
}

/** Every parameter by its name in lower case. Of two challenges with the same one the first counts. */
function parametersOf(challenges: string): Map<string, string> {
  const parameters = new Map<string, string>()
  for (const [, name = '', quoted, plain = ''] of challenges.matchAll(PARAMETER)) {
    const key = name.toLowerCase()
    if (!parameters.has(key)) parameters.set(key, quoted?.replace(/\\(.)/g, '$1') ?? plain)
  }
  return parameters
}

function stepUp(parameters: ReadonlyMap<string, string>, token: string): StepUpError {
  const [acrValues, maxAge, scope] = ['acr_values', 'max_age', 'scope'].map((name) => parameters.get(name))
  return new StepUpError(
    {
      ...(acrValues && { acrValues }),
      ...(maxAge && /^\d{1,9}$/.test(maxAge) && { maxAge: Number(maxAge) }),
      ...(scope && { scope }),
    },
    [token],
  )
}

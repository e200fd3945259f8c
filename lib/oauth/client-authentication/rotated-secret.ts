import { RotatingValue } from '../../concurrency/rotating-value.js'
import { TokenError } from '../../errors/token-error.js'
import type {
  ClientAuthentication,
  ClientAuthenticationRequest,
  ClientCredentials,
} from './client-authentication.js'

/** A secret, or a function that returns the current one, so that a vault can change it while the process runs. */
export type RotatedSecret<Secret> = Secret | (() => Secret | undefined | Promise<Secret | undefined>)

/**
 * Makes a client authentication over a secret, or over a function that returns it.
 *
 * @param name the factory, for messages
 * @param check returns the secret as it is used, and throws for a value that cannot be used
 */
export function authenticationOver<Secret>(
  name: string,
  source: unknown,
  check: (given: unknown, name: string) => Secret,
  authenticate: (
    secret: Secret,
    request: ClientAuthenticationRequest,
  ) => ClientCredentials | Promise<ClientCredentials>,
): ClientAuthentication {
  if (typeof source !== 'function') {
    return authenticate.bind(undefined, check(source, name))
  }
  const rotating = new RotatingValue(source as () => unknown, (given) => check(given, name))
  return async (request) => {
    await rotating.prepare(request.now, (cause, hasLast) => {
      const error = failedError(name, cause, hasLast)
      request.onSecretFailed?.(error, hasLast)
      return error
    })
    return authenticate(rotating.value!, request)
  }
}

function failedError(name: string, cause: unknown, hasLast: boolean): TokenError {
  const then = hasLast ? 'The last good one is still used' : 'Nothing was sent, and the users stay logged in'
  return new TokenError(
    'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    `${name}: the function that returns the secret, the key or the certificate has failed. ${then}. Check the function.`,
    // A vault may put anything into its message.
    { cause, causeMessage: cause instanceof TypeError || cause instanceof TokenError },
  )
}

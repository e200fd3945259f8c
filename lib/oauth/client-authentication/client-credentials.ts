import { abortedError, raceAbort } from '../../concurrency/abortable.js'
import { ConfigurationError, TokenError } from '../../errors/token-error.js'
import { ownProperties } from '../../options/own-properties.js'
import { assertStringRecord } from '../../options/string-record.js'
import type {
  ClientAuthentication,
  ClientAuthenticationRequest,
  ClientCredentials,
} from './client-authentication.js'

const WHAT = 'The function clientAuthentication'
const RESULT: readonly string[] = [
  'headers',
  'parameters',
  'secrets',
  'certificate',
] satisfies (keyof ClientCredentials)[]

/**
 * Calls the function `clientAuthentication` for the headers and parameters of a request, and checks its result.
 *
 * If the function fails, no request is sent, and the user stays logged in, whatever the error: the function may use tokens of
 * another grant, which may have ended.
 *
 * @param secrets Collects the strings that no error may show.
 */
export async function clientCredentials(
  clientAuthentication: ClientAuthentication,
  client: ClientAuthenticationRequest,
  secrets: () => readonly string[],
  signal: AbortSignal,
): Promise<ClientCredentials> {
  try {
    const made = clientAuthentication(client)
    return checkedCredentials(
      isPromise(made)
        ? await raceAbort(Promise.resolve(made), signal, () => abortedError(signal, WHAT))
        : made,
    )
  } catch (error) {
    if (error instanceof ConfigurationError) throw error
    if (signal.aborted) throw abortedError(signal, WHAT)
    throw new TokenError(
      'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
      `${WHAT} failed, so no request was sent. The cause says why.`,
      { cause: error, secrets: secrets() },
    )
  }
}

function isPromise<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  return typeof (value as PromiseLike<T> | null | undefined)?.then === 'function'
}

function checkedCredentials(credentials: ClientCredentials): ClientCredentials {
  if (typeof credentials !== 'object' || credentials === null || Array.isArray(credentials)) {
    throw wrongResult('an object, e.g. { parameters: { client_id: clientId } }')
  }
  for (const name of Object.keys(credentials)) {
    if (!RESULT.includes(name)) throw wrongResult(`an object of ${RESULT.join(', ')} and nothing else`)
  }
  const own = ownProperties(credentials)
  const { headers, parameters, secrets } = own
  if (headers !== undefined) {
    assertStringRecord(headers, 'The headers that clientAuthentication returns', "{ 'X-Api-Key': key }")
  }
  if (parameters !== undefined) {
    assertStringRecord(
      parameters,
      'The parameters that clientAuthentication returns',
      '{ client_id: clientId }',
    )
  }
  if (secrets !== undefined && !(Array.isArray(secrets) && secrets.every((it) => typeof it === 'string'))) {
    throw wrongResult('secrets in an array of strings, or none')
  }
  return own
}

function wrongResult(right: string): ConfigurationError {
  return new ConfigurationError(
    `clientAuthentication must return ${right}. Or use one of the library's, e.g. clientSecretBasic(secret).`,
  )
}

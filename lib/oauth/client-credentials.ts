import { ConfigurationError, TokenError } from '../errors.js'
import { ownProperties } from '../own-properties.js'
import type {
  ClientAuthentication,
  ClientAuthenticationRequest,
  ClientCredentials,
} from './client-authentication.js'
import { checkTexts } from './texts.js'
import { abortedError, untilAborted } from './until-aborted.js'

const WHAT = 'The client authentication'
const RESULT = ['headers', 'parameters', 'secrets'] as const satisfies readonly (keyof ClientCredentials)[]

/**
 * What a client authentication adds to a request, checked.
 *
 * However it fails, it says nothing about the user: it may have asked for tokens of its own, and found their grant dead.
 *
 * @param secrets Strings that no error may show.
 */
export async function clientCredentials(
  clientAuthentication: ClientAuthentication,
  client: ClientAuthenticationRequest,
  secrets: readonly string[],
  signal: AbortSignal,
): Promise<ClientCredentials> {
  try {
    const made = Promise.resolve().then(() => clientAuthentication(client))
    return checkedCredentials(await untilAborted(made, signal, WHAT))
  } catch (error) {
    if (error instanceof ConfigurationError) throw error
    if (signal.aborted) throw abortedError(signal, WHAT)
    throw new TokenError(
      'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
      `${WHAT} could not be made, so nothing was sent. The cause says why.`,
      { cause: error, secrets },
    )
  }
}

function checkedCredentials(credentials: ClientCredentials): ClientCredentials {
  if (typeof credentials !== 'object' || credentials === null || Array.isArray(credentials)) {
    throw wrongResult('an object, e.g. { parameters: { client_id: clientId } }')
  }
  if (Object.keys(credentials).some((name) => !(RESULT as readonly string[]).includes(name))) {
    throw wrongResult(`an object of ${RESULT.join(', ')} and nothing else`)
  }
  const own = ownProperties(credentials)
  const { headers, parameters, secrets } = own
  checkTexts(headers, 'The headers that clientAuthentication answers with', "{ 'X-Api-Key': key }")
  checkTexts(parameters, 'The parameters that clientAuthentication answers with', '{ client_id: clientId }')
  if (secrets !== undefined && !(Array.isArray(secrets) && secrets.every((it) => typeof it === 'string'))) {
    throw wrongResult('secrets in an array of strings, or none')
  }
  return own
}

function wrongResult(right: string): ConfigurationError {
  return new ConfigurationError(
    `clientAuthentication must answer with ${right}. Or use clientSecretBasic(secret) or another of those that come with the library.`,
  )
}

import type { RefreshAnswer } from './authorization-server.js'
import type { ClientAuthentication, ClientAuthenticationRequest } from './client-authentication.js'
import { clientCredentials } from './client-credentials.js'
import { shownUrl } from './endpoint-url.js'
import {
  errorOfResponse,
  errorOfSuccess,
  fieldsOf,
  isSuccess,
  type RefreshAsked,
  type ResponseContext,
  unreadableError,
} from './error-response.js'
import { encodedForm, type FormParameters, orderedForm, secretsOfRequest } from './form.js'
import { isGone } from './gone-tokens.js'
import type { HttpAnswer, SendHttp } from './http.js'
import { refuseOverrides } from './refresh-parameters.js'
import { tokenFields, tokenResponse } from './token-response.js'

/** A form to be sent to an endpoint of the authorization server, with the client's authentication added. */
export interface FormRequest {
  /** Names the endpoint in messages, e.g. `The token endpoint`. */
  readonly what: string
  readonly parameters: FormParameters
  /** The names of the parameters that go before the client authentication's, in their order. */
  readonly own: readonly string[]
  /** The names of what the option `refreshParameters` adds. */
  readonly added?: readonly string[]
  readonly client: ClientAuthenticationRequest
  readonly clientAuthentication: ClientAuthentication
  /** Strings that no error may show, besides what is in the form and in the client's credentials. */
  readonly secrets: readonly string[]
  readonly signal: AbortSignal
}

const FORM_HEADERS = {
  'Content-Type': 'application/x-www-form-urlencoded;charset=UTF-8',
  Accept: 'application/json',
}

/**
 * Asks the token endpoint for tokens (RFC 6749 §4, §6), once: nothing is sent again when it fails.
 *
 * @param refresh what the refusal of a refresh is judged by
 */
export async function requestTokens(
  send: SendHttp,
  request: FormRequest,
  refresh?: RefreshAsked,
): Promise<RefreshAnswer> {
  const { response, context: sent } = await sendForm(send, request)
  const context = { ...sent, ...(refresh && { refresh }) }
  if (!isSuccess(response)) throw errorOfResponse(response, context)
  const fields = fieldsOf(response)
  if (!fields) throw unreadableError(response, context)
  const tokens = tokenFields(fields)
  const refused = tokens === fields ? undefined : errorOfSuccess(response, fields, context)
  if (refused) throw refused
  const { what, secrets, now } = context
  return tokenResponse(tokens ?? fields, now, `${what}: its answer`, secrets)
}

/**
 * Asks the revocation endpoint to revoke (RFC 7009 §2), once. A token that is gone already is as good as revoked. A success
 * has no content that matters, unless that is an error.
 */
export async function requestRevocation(send: SendHttp, request: FormRequest): Promise<void> {
  const { response, context } = await sendForm(send, request)
  const fields = fieldsOf(response)
  if (fields && isGone(response.status, fields)) return
  const refused = isSuccess(response)
    ? fields && errorOfSuccess(response, fields, context)
    : errorOfResponse(response, context)
  if (refused) throw refused
}

async function sendForm(
  send: SendHttp,
  request: FormRequest,
): Promise<{ response: HttpAnswer; context: ResponseContext }> {
  const { parameters, own, client, clientAuthentication, signal } = request
  const { endpoint, now } = client
  const credentials = await clientCredentials(clientAuthentication, client, request.secrets, signal)
  refuseOverrides(request.added ?? [], credentials)
  const form = orderedForm(parameters, own, credentials)
  const secrets = [...secretsOfRequest(form, credentials), ...request.secrets]
  const what = `${request.what} ${shownUrl(endpoint, secrets)}`
  const headers = { ...credentials.headers, ...FORM_HEADERS }
  const response = await send({
    what,
    method: 'POST',
    url: endpoint,
    headers,
    body: encodedForm(form),
    secrets,
    signal,
  })
  return { response, context: { what, secrets, now } }
}

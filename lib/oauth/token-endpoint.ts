import type { RefreshAnswer } from './authorization-server.js'
import type { ClientAuthentication, ClientAuthenticationRequest } from './client-authentication.js'
import { clientCredentials } from './client-credentials.js'
import { shownUrl } from './endpoint-url.js'
import { type AnswerContext, errorOfAnswer, fieldsOfAnswer } from './error-answer.js'
import { encodedForm, type FormParameters, orderedForm, secretsOfRequest } from './form.js'
import type { HttpAnswer, SendHttp } from './http.js'
import { tokenResponse } from './token-response.js'

/** A form to be sent to an endpoint of the authorization server, with the client's authentication added. */
export interface FormRequest {
  /** Names the endpoint in messages, e.g. `The token endpoint`. */
  readonly what: string
  readonly parameters: FormParameters
  /** The names of the parameters that go before the client authentication's, in their order. */
  readonly own: readonly string[]
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

/** Asks the token endpoint for tokens (RFC 6749 §4, §6), once: nothing is sent again when it fails. */
export async function requestTokens(send: SendHttp, request: FormRequest): Promise<RefreshAnswer> {
  const { answer, context } = await sendForm(send, request)
  const { what, secrets, now } = context
  return tokenResponse(fieldsOfAnswer(answer, context), now, `${what}: its answer`, secrets)
}

/** Asks the revocation endpoint to revoke (RFC 7009 §2), once. A success has no content that matters. */
export async function requestRevocation(send: SendHttp, request: FormRequest): Promise<void> {
  await sendForm(send, request)
}

/** Sends a form, and rejects unless the answer is a success (2xx). */
async function sendForm(
  send: SendHttp,
  request: FormRequest,
): Promise<{ answer: HttpAnswer; context: AnswerContext }> {
  const { parameters, own, client, clientAuthentication, signal } = request
  const { endpoint, now } = client
  const credentials = await clientCredentials(clientAuthentication, client, request.secrets, signal)
  const form = orderedForm(parameters, own, credentials)
  const secrets = [...secretsOfRequest(form, credentials), ...request.secrets]
  const what = `${request.what} ${shownUrl(endpoint, secrets)}`
  const headers = { ...credentials.headers, ...FORM_HEADERS }
  const answer = await send({
    what,
    method: 'POST',
    url: endpoint,
    headers,
    body: encodedForm(form),
    secrets,
    signal,
  })
  const context = { what, secrets, now }
  if (answer.status < 200 || answer.status >= 300) throw errorOfAnswer(answer, context)
  return { answer, context }
}

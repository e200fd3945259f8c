import { ConfigurationError } from '../../errors/token-error.js'
import type { JsonObject } from '../../options/own-properties.js'
import type { DpopProofs } from '../../tokens/token-source.js'
import type { FailedRefresh, RefreshResponse } from '../authorization-server.js'
import type {
  ClientAuthentication,
  ClientAuthenticationRequest,
  ClientCredentials,
} from '../client-authentication/client-authentication.js'
import { clientCredentials } from '../client-authentication/client-credentials.js'
import { boundResponse } from '../dpop/bound-response.js'
import { safeUrl } from '../endpoint-url.js'
import type { HttpResponse, SendHttp } from '../http.js'
import {
  errorOfResponse,
  errorOfSuccess,
  type RefreshFacts,
  type ResponseContext,
  unreadableError,
} from './error-response.js'
import { fieldsOf, flawedError, tokenFields, tokenResponse } from './token-response.js'
import { isRevokedAlready } from './vendor-errors.js'

/** Form parameters by their names on the wire. An `undefined` or empty value is not sent (RFC 6749 §3.2). */
export type FormParameters = Readonly<Record<string, string | readonly string[] | undefined>>

/** The names and values of a form, in the order in which they are sent. */
type Form = [name: string, value: string][]

/** A form for an endpoint of the authorization server. The client's authentication is added when it is sent. */
export interface FormRequest {
  readonly endpoint: 'token' | 'refresh' | 'revocation'
  readonly parameters: FormParameters
  /** The names of the parameters that are sent before those of the client authentication, in their order. */
  readonly first: readonly string[]
  /** The names of the parameters that only the option `refreshParameters` sets. */
  readonly added: readonly string[]
  readonly client: ClientAuthenticationRequest
  readonly clientAuthentication: ClientAuthentication
  /** Makes the proofs that the client holds the key of the grant (RFC 9449). */
  readonly dpop?: DpopProofs
  /** Whether a bearer token is accepted in place of a token that is bound to the key. */
  readonly acceptsBearer?: boolean
  /** Collects the strings that no error may show, besides those in the form and in the client's credentials. */
  readonly secrets: () => readonly string[]
  /** Throws if the form must not be sent any more. */
  readonly beforeSending: (() => void) | undefined
  /** Returns the flaw in the fields of a success, besides its tokens. */
  readonly flawOf?: (fields: JsonObject) => string | undefined
  readonly signal: AbortSignal
}

const FORM_HEADERS = {
  'Content-Type': 'application/x-www-form-urlencoded;charset=UTF-8',
  Accept: 'application/json',
}
/** The parameters that are sent after those of the client authentication. */
const LAST = ['scope', 'resource']
/** The parameters whose values errors may show. The values of all other parameters count as secrets. */
const PUBLIC = new Set([
  'actor_token_type',
  'audience',
  'client_assertion_type',
  'client_id',
  'grant_type',
  'redirect_uri',
  'requested_token_type',
  'resource',
  'scope',
  'subject_token_type',
  'token_type_hint',
  'username',
])

/**
 * Requests tokens from the token endpoint (RFC 6749 §4, §6), once: a failed request is not repeated. (A request whose proof lacks
 * the server's nonce is refused, and sent once more with the nonce: the server has not processed it.)
 *
 * @param refresh The facts of the refresh, if the request is a refresh. Error responses are judged by them.
 */
export async function requestTokens(
  send: SendHttp,
  request: FormRequest,
  refresh?: RefreshFacts,
): Promise<RefreshResponse | FailedRefresh> {
  const { response, context } = await sendForm(send, request, refresh)
  if (!isSuccess(response)) throw errorOfResponse(response, context)
  const fields = fieldsOf(response)
  if (!fields) throw unreadableError(response, context)
  const tokens = tokenFields(fields)
  const error = tokens === fields ? undefined : errorOfSuccess(response, fields, context)
  if (error) throw error
  const flaw = request.flawOf?.(tokens ?? fields)
  if (flaw !== undefined) throw flawedError(context, flaw)
  const issued = tokenResponse(tokens ?? fields, context)
  if (!request.dpop) return issued
  return boundResponse(issued, request.acceptsBearer ?? false, context.describe)
}

/**
 * Requests a revocation (RFC 7009 §2), once. A response that says that the token is revoked already is a success. The body
 * of a success matters only if it holds an error.
 */
export async function requestRevocation(send: SendHttp, request: FormRequest): Promise<void> {
  const { response, context } = await sendForm(send, request)
  const fields = fieldsOf(response)
  if (fields && isRevokedAlready(response.status, fields)) return
  const error = isSuccess(response)
    ? fields && errorOfSuccess(response, fields, context)
    : errorOfResponse(response, context)
  if (error) throw error
}

function isSuccess({ status }: HttpResponse): boolean {
  return status >= 200 && status < 300
}

/** The response to a form, and the facts of its request. */
interface Answered {
  readonly response: HttpResponse
  readonly context: ResponseContext
}

async function sendForm(send: SendHttp, request: FormRequest, refresh?: RefreshFacts): Promise<Answered> {
  const answered = await sendOnce(send, request, refresh)
  const { dpop } = request
  if (!dpop) return answered
  const isNewNonce = dpop.learn(request.client.endpoint, answered.response)
  const refusal = refusalOfProof(answered.response)
  if (refusal === undefined) return answered
  dpop.noteRefusal(request.client.endpoint, answered.response)
  if (refusal !== 'use_dpop_nonce' || !isNewNonce) return answered
  const repeated = await sendOnce(send, request, refresh)
  dpop.learn(request.client.endpoint, repeated.response)
  return repeated
}

/** Returns the error code of a response that refuses the proof of the request (RFC 9449 §5, §8). */
function refusalOfProof(response: HttpResponse): string | undefined {
  if (response.status !== 400 && response.status !== 401) return undefined
  const error = fieldsOf(response)?.error
  return error === 'use_dpop_nonce' || error === 'invalid_dpop_proof' ? error : undefined
}

async function sendOnce(send: SendHttp, request: FormRequest, refresh?: RefreshFacts): Promise<Answered> {
  const { client, clientAuthentication, dpop, signal } = request
  const credentials = await clientCredentials(clientAuthentication, client, request.secrets, signal)
  const form = orderedForm(request, credentials)
  const proof = dpop && { DPoP: await dpop.proof('POST', client.endpoint) }
  const secrets = () => [...secretsOfRequest(form, credentials), ...request.secrets(), ...(dpop?.made ?? [])]
  const describe = () => `The ${request.endpoint} endpoint`
  const where = () => safeUrl(client.endpoint, secrets())
  request.beforeSending?.()
  const response = await send({
    describe,
    where,
    method: 'POST',
    url: client.endpoint,
    headers: { ...credentials.headers, ...FORM_HEADERS, ...proof },
    body: new URLSearchParams(form).toString(),
    secrets,
    signal,
    ...(credentials.certificate && { certificate: credentials.certificate }),
  })
  return { response, context: { describe, where, secrets, now: client.now, refresh } }
}

/**
 * Puts the parameters of a form in order: those of the request itself, those of the client authentication, `scope` and
 * `resource`, then the rest.
 */
function orderedForm({ parameters, first, added }: FormRequest, client: ClientCredentials): Form {
  const ofClient = client.parameters ?? {}
  rejectOverrides(ofClient, [...first, ...LAST], added)
  const form: Form = []
  append(form, parameters, first)
  append(form, ofClient, Object.keys(ofClient))
  append(form, parameters, LAST)
  const placed = new Set([...first, ...Object.keys(ofClient), ...LAST])
  for (const name of Object.keys(parameters)) if (!placed.has(name)) append(form, parameters, [name])
  return form
}

/** @throws `ConfigurationError` if the client authentication sets a parameter that the request or an option sets */
function rejectOverrides(
  ofClient: FormParameters,
  ofRequest: readonly string[],
  added: readonly string[],
): void {
  for (const name of Object.keys(ofClient)) {
    if (added.includes(name)) {
      throw new ConfigurationError(
        `\`refreshParameters\` must not set ${name}, which clientAuthentication sets. Nothing was sent; leave it out.`,
      )
    }
    if (ofRequest.includes(name)) {
      throw new ConfigurationError(
        `clientAuthentication must not set the parameter ${name}, which belongs to the request itself. Leave it out.`,
      )
    }
  }
}

function append(form: Form, parameters: FormParameters, names: readonly string[]): void {
  for (const name of names) {
    if (!Object.hasOwn(parameters, name)) continue
    for (const value of [parameters[name] ?? []].flat()) {
      if (typeof value !== 'string') {
        throw new ConfigurationError(
          `The parameter ${name} of a token request must be a string, or an array of strings.`,
        )
      }
      if (value !== '') form.push([name, value])
    }
  }
}

/** Collects the strings in a request that no error may show. */
export function secretsOfRequest(form: Form, client: ClientCredentials): string[] {
  const inForm = form.filter(([name]) => !PUBLIC.has(name)).map(([, value]) => value)
  const inHeaders = Object.values(client.headers ?? {}).flatMap((value) => [
    value,
    value.split(' ').at(-1) ?? '',
  ])
  return [...inForm, ...inHeaders, ...(client.secrets ?? [])]
}

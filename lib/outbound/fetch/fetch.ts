import { defaultMaxListeners, getMaxListeners, setMaxListeners } from 'node:events'
import { raceAbort } from '../../concurrency/abortable.js'
import type { OptionTable } from '../../options/option-table.js'
import { ownProperties } from '../../options/own-properties.js'
import type { ClientCertificate } from '../../tokens/client-certificate.js'
import type { OutboundTokens } from '../../tokens/token-source.js'
import { type Attempt, type Authorization, mayReplay, sendAuthorized } from '../authorized-call.js'
import { cleanResponse } from '../bodies.js'
import { cleanError, type Secrets } from '../cleaning.js'
import { requireHttps, requireNamedOrigin } from '../origins.js'
import { checkOutboundOptions, OUTBOUND_OPTIONS, type OutboundOptions } from '../outbound-options.js'
import { sendProven } from '../proven-request.js'
import { DEFAULT_MAX_REDIRECTS, tokenAlong } from '../redirect-rules.js'
import { dispatcherFor, makeDispatcherOption } from './certificate-dispatchers.js'
import { discard, sendFollowing } from './redirects.js'
import { type FetchRequest, isUsedUp, requestOf } from './request.js'

/** The options of `fetch()`: the API, the token that calls carry, and the client certificate of the connections. */
export interface SessionFetchConfig extends OutboundOptions {
  /**
   * Makes a dispatcher of undici with the client certificate of `tlsClientAuth()` or `selfSignedTlsClientAuth()`, for an API
   * whose tokens are bound to it (RFC 8705 §3). Requests with the token go over its connections; a `dispatcher` of the call is
   * for the other requests. The function is called once for each certificate, so define it once, and not for each request.
   * Default: connections without a certificate.
   *
   * @example
   * const clientCertificate = ({ cert, key }: ClientCertificate) => new Agent({ connect: { cert, key } })
   */
  clientCertificate?: (certificate: ClientCertificate) => object
}

const OPTIONS = {
  ...OUTBOUND_OPTIONS,
  clientCertificate: makeDispatcherOption,
} satisfies OptionTable<SessionFetchConfig>

/**
 * Makes a function like the platform's `fetch()` that sends the session's access token to the origins named and to no other.
 *
 * The token is put in at the last moment, and neither the response nor an error holds it.
 *
 * @param tokens returns the tokens that a call carries; called when the call is made
 * @param client names the function in messages
 */
export function fetchOver(
  tokens: () => OutboundTokens,
  config: SessionFetchConfig,
  client = 'fetch',
): typeof fetch {
  const checked = checkOutboundOptions(config, client, OPTIONS)
  const { clientCertificate: makeDispatcher } = checked
  const { origins, need, replay, baseURL, maxRedirects = DEFAULT_MAX_REDIRECTS } = checked

  if (makeDispatcher) requireHttps(origins)

  return async function authorizedFetch(input, init) {
    const request = requestOf(input, init ?? {}, baseURL)
    requireNamedOrigin(request.url, origins)
    request.signal?.throwIfAborted()
    return sendAuthorized({
      method: request.method,
      url: request.url,
      tokens: tokens(),
      need,
      mayReplay: !isUsedUp(request.body) && mayReplay(replay, request.method),
      clientCertificate: makeDispatcher !== undefined,
      send: (authorization, secrets) =>
        attempt({ ...request, makeDispatcher }, maxRedirects, tokenAlong(origins, authorization), secrets),
      wait: (work) => untilAborted(work, request.signal),
    })
  }
}

async function attempt(
  request: FetchRequest,
  maxRedirects: number,
  authorizationFor: (url: string) => Authorization | undefined,
  secrets: Secrets,
): Promise<Attempt<Response>> {
  const clean = (error: unknown) => {
    const { signal } = request
    return signal?.aborted && error === signal.reason ? error : cleanError(error, secrets())
  }
  const { response, url } = await sendFollowing(request, maxRedirects, (hop) =>
    sendOne(hop, authorizationFor(hop.url), clean),
  )
  return {
    status: response.status,
    challenge: response.headers.get('www-authenticate'),
    sawToken: authorizationFor(url) !== undefined,
    result: () => cleanResponse(response, clean),
    discard: () => discard(response),
  }
}

/** Sends one request of those that redirects make of a call, and follows nothing. */
async function sendOne(
  request: FetchRequest,
  authorization: Authorization | undefined,
  clean: (error: unknown) => unknown,
): Promise<Response> {
  if (!authorization?.dpop) return sendOnce(request, authorization, clean)
  return sendProven<Response>(authorization.dpop, {
    method: methodOnTheWire(request.method),
    url: request.url,
    mayRepeat: () => !isUsedUp(request.body),
    send: (proof) => sendOnce(request, authorization, clean, proof),
    read: ({ headers, status }) => ({ status, header: (name) => headers.get(name) }),
    discard,
  })
}

/**
 * Returns a method as the platform's `fetch()` writes it: DELETE, GET, HEAD, OPTIONS, POST and PUT in upper case, and other
 * methods as they are given.
 */
function methodOnTheWire(method: string): string {
  return /^(?:delete|get|head|options|post|put)$/i.test(method) ? method.toUpperCase() : method
}

async function sendOnce(
  request: FetchRequest,
  authorization: Authorization | undefined,
  clean: (error: unknown) => unknown,
  proof?: string,
): Promise<Response> {
  const { url, method, body, makeDispatcher, redirect, settings, signal } = request
  const certificate = authorization?.certificate
  const dispatcher = makeDispatcher && certificate && dispatcherFor(makeDispatcher, certificate)
  const headers = new Headers(request.headers)
  // Only the token authorizes a request.
  headers.delete('Authorization')
  if (authorization) headers.set('Authorization', authorization.header)
  if (proof !== undefined) headers.set('DPoP', proof)
  try {
    const init = {
      ...settings,
      ...(dispatcher && { dispatcher: dispatcher as never }),
      method,
      headers,
      body: body ?? null,
      redirect: redirect === 'error' ? ('error' as const) : ('manual' as const),
      signal: signal ?? null,
    }
    return await fetch(url, ownProperties(init))
  } catch (error) {
    throw clean(error)
  }
}

/** Waits for the work, but no longer than the caller does. The work itself goes on. */
function untilAborted<T>(work: Promise<T>, signal: AbortSignal | null | undefined): Promise<T> {
  if (!signal) return work
  // One signal may stand for many calls, which Node warns of. The platform's fetch() does the same.
  if (getMaxListeners(signal) === defaultMaxListeners) setMaxListeners(1500, signal)
  return raceAbort(work, signal, () => signal.reason)
}

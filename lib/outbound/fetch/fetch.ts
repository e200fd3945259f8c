import { defaultMaxListeners, getMaxListeners, setMaxListeners } from 'node:events'
import { ownProperties } from '../../own-properties.js'
import { refuseUnknown } from '../../spelling.js'
import type { OutboundTokens } from '../../token-source.js'
import { type Attempt, mayReplay, sendAuthorized } from '../authorized-call.js'
import { cleanResponse } from '../bodies.js'
import { verdictOn } from '../challenge.js'
import { cleanError, type Secrets } from '../cleaning.js'
import { requireNamedOrigin } from '../origins.js'
import { checkedOptions, OUTBOUND_OPTIONS, type OutboundOptions } from '../outbound-options.js'
import { DEFAULT_MAX_REDIRECTS, tokenAlong } from '../redirect-rules.js'
import { discard, followRedirects } from './redirects.js'
import { type FetchRequest, isUsedUp, requestOf } from './request.js'

/**
 * A function like the platform's `fetch()` that sends the session's access token to the origins named and to no other.
 *
 * The token is put in at the last moment, and nothing that comes back holds it.
 *
 * @param tokens whose tokens a call carries, asked when it is made
 * @param client names the function in messages
 */
export function fetchOver(
  tokens: () => OutboundTokens,
  config: OutboundOptions,
  client = 'fetch',
): typeof fetch {
  const checked = checkedOptions(config, client)
  refuseUnknown(config, OUTBOUND_OPTIONS, `${client}()`)
  const { origins, need, replay, baseURL, maxRedirects = DEFAULT_MAX_REDIRECTS } = checked

  return async function authorizedFetch(input, init) {
    const request = requestOf(input, init ?? {}, baseURL)
    requireNamedOrigin(request.url, origins)
    request.signal?.throwIfAborted()
    return sendAuthorized({
      tokens: tokens(),
      need,
      mayReplay: !isUsedUp(request.body) && mayReplay(replay, request.method),
      send: (token, secrets) => attempt(request, maxRedirects, tokenAlong(origins, token), secrets),
      wait: (work) => whileWanted(work, request.signal),
    })
  }
}

async function attempt(
  request: FetchRequest,
  maxRedirects: number,
  tokenFor: (url: string) => string | undefined,
  secrets: Secrets,
): Promise<Attempt<Response>> {
  const clean = (error: unknown) => {
    const { signal } = request
    return signal?.aborted && error === signal.reason ? error : cleanError(error, secrets())
  }
  const { answer, url } = await followRedirects(request, maxRedirects, (hop) =>
    sendOne(hop, tokenFor(hop.url), clean),
  )
  const challenge = answer.headers.get('www-authenticate') ?? ''
  return {
    verdict: tokenFor(url) === undefined ? 'taken' : verdictOn(answer.status, challenge, secrets),
    settle: () => cleanResponse(answer, clean),
    discard: () => discard(answer),
  }
}

/** Sends one request of those that redirects make of a call, and follows nothing. */
async function sendOne(
  request: FetchRequest,
  token: string | undefined,
  clean: (error: unknown) => unknown,
): Promise<Response> {
  const { url, method, body, redirect, settings, signal } = request
  const headers = new Headers(request.headers)
  // Only the token authorizes a request.
  headers.delete('Authorization')
  if (token !== undefined) headers.set('Authorization', `Bearer ${token}`)
  try {
    const init = {
      ...settings,
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
function whileWanted<T>(work: Promise<T>, signal: AbortSignal | null | undefined): Promise<T> {
  if (!signal) return work
  // One signal may stand for many calls, which Node warns of. The platform's fetch() does the same.
  if (getMaxListeners(signal) === defaultMaxListeners) setMaxListeners(1500, signal)
  return new Promise((resolve, reject) => {
    const leave = () => reject(signal.reason)
    signal.addEventListener('abort', leave)
    if (signal.aborted) leave()
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave))
  })
}

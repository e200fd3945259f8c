import { problemDetails, problemOf } from '../errors/problem-details.js'
import { ConfigurationError, isLoggedOutError, StepUpError } from '../errors/token-error.js'
import { sendAuthorized } from '../outbound/authorized-call.js'
import { crossOriginRefusal } from '../outbound/cross-origin.js'
import type { OutboundTokens } from '../tokens/token-source.js'
import { headersForApi, isMisframed } from './headers.js'
import { type BearerProxyOptions, type CheckedProxyOptions, checkedProxyOptions } from './options.js'
import { pathAtApi } from './path.js'
import { ProxiedCall, type Route } from './proxied-call.js'
import type { ProxyRequest } from './proxy-request.js'
import type { Reply } from './reply.js'
import { allowedByUpgrades } from './upgrades.js'
import { upstreamSender } from './upstream-request.js'

/**
 * Resolves with the browser's response, or with nothing when the browser has disconnected or something else has responded
 * by then; rejects with an error for the app to handle.
 */
export type ProxyRoute = (proxyRequest: ProxyRequest) => Promise<Reply | undefined>

/** Checks the options and puts the parts together. */
export function proxyRoute(given: BearerProxyOptions): ProxyRoute {
  const options = checkedProxyOptions(given)
  const route: Route = {
    options,
    passHeaders: headersForApi(options.withhold),
    send: upstreamSender(options),
  }

  return async (proxyRequest) => {
    try {
      const reply = await replyTo(proxyRequest, route)
      if (!proxyRequest.isDisconnected && !proxyRequest.response.headersSent) return reply
      if (typeof reply.body !== 'string') reply.body.end()
    } catch (error) {
      if (!proxyRequest.isDisconnected) throw error
    }
    return undefined
  }
}

async function replyTo(proxyRequest: ProxyRequest, route: Route): Promise<Reply> {
  const { options } = route
  const refusal = refusalOf(proxyRequest, options)
  if (refusal) return refusal
  const tokens = tokensOf(proxyRequest, options.property)
  const path = await pathAtApi(options.path, proxyRequest.request, proxyRequest.originalUrl)
  if (path === undefined) return problemDetails(400, 'Bad Request', 'The path is not one that is passed on.')
  const call = new ProxiedCall(route, proxyRequest, tokens, path)
  try {
    return await sendAuthorized(call)
  } catch (error) {
    if (!proxyRequest.isDisconnected) call.body.drain()
    if (isLoggedOutError(error) || error instanceof StepUpError) return problemOf(error)
    throw error
  }
}

/** Returns the response to a request that is not passed on. */
function refusalOf(proxyRequest: ProxyRequest, { allowedOrigins }: CheckedProxyOptions): Reply | undefined {
  const { request } = proxyRequest
  const { method = 'GET', headers } = request
  const refusal = crossOriginRefusal(request, proxyRequest, allowedOrigins)
  if (refusal && !allowedByUpgrades(request)) return refusal
  if (!isPassedOn(method)) return problemDetails(405, 'Method Not Allowed', `${method} is not passed on.`)
  return isMisframed(headers) ? misframed() : undefined
}

function tokensOf({ carrier, carrierName }: ProxyRequest, property: string): OutboundTokens {
  const tokens = (carrier as Record<string, OutboundTokens | undefined>)[property]
  if (typeof tokens?.tokenToSend === 'function') return tokens
  if (tokens !== undefined) {
    throw new ConfigurationError(
      `${carrierName}.${property} is foreign: it has no tokens for bearerProxy(). In a test, use fakeTokens() of ` +
        "'session-token-manager/testing' in place of a stub.",
    )
  }
  throw new ConfigurationError(
    `${carrierName}.${property} is missing. Mount sessionTokens() before bearerProxy(), or name its \`property\`: ` +
      'bearerProxy({ property }).',
  )
}

/** The response to TRACE, or to TRACK of older servers, is the request, with the token. CONNECT asks for a tunnel. */
const NOT_PASSED_ON: readonly string[] = ['TRACE', 'TRACK', 'CONNECT']

/**
 * Whether requests with this method are passed on. HTTP/2 takes methods in lower case, which Node would send in upper case: the
 * guards in front have seen another one (RFC 9110 §9.1).
 */
function isPassedOn(method: string): boolean {
  return !NOT_PASSED_ON.includes(method) && method === method.toUpperCase()
}

/** Returns the refusal of a request whose end is not certain. The connection must end with it. */
function misframed(): Reply {
  const { status, headers, body } = problemDetails(
    400,
    'Bad Request',
    'The request has both a Content-Length and a Transfer-Encoding, or one other than chunked.',
  )
  return { status, headers: { ...headers, connection: 'close' }, body }
}

import type { IncomingMessage } from 'node:http'
import { crossOriginRefusal } from '../../cross-origin.js'
import { ConfigurationError, isNobody, StepUpError } from '../../errors.js'
import { type Problem, problem, unauthorized } from '../../problem.js'
import type { OutboundTokens } from '../../token-source.js'
import { type Attempt, mayReplay, sendAuthorized } from '../authorized-call.js'
import { verdictOn } from '../challenge.js'
import { bodyOf, type ParsedBody, type ProxyBody } from './body.js'
import { dialer } from './dial.js'
import { type ApiRequest, type Exchange, type Send, sender } from './exchange.js'
import { SilentApi } from './failure.js'
import { headersForApi } from './headers.js'
import { type BearerProxyOptions, type CheckedProxyOptions, checkedProxyOptions } from './options.js'
import { type Addressed, pathAtApi } from './path.js'
import { type Reply, replyOf, stepUpRequired } from './reply.js'
import { allowedByUpgrades } from './upgrades.js'

/** A request as a framework has it. */
export interface Visit {
  /** What has the tokens, and what handlers usually call it. */
  readonly carrier: object
  readonly carrierName: string
  readonly request: IncomingMessage & Addressed
  readonly parsed: ParsedBody
  /** Who asks, by what the framework takes for true. */
  readonly ip: string | undefined
  readonly protocol: string | undefined
  readonly host: string | undefined
  /** Whether it asks for a WebSocket. */
  readonly isUpgrade: boolean
  /** Aborted when nobody waits for the reply any more. */
  readonly signal: AbortSignal
}

/** Resolves with what the browser gets; rejects with what is the app's to handle. */
export type ProxyRoute = (visit: Visit) => Promise<Reply>

/** Checks the options and puts the parts together. */
export function proxyRoute(options: BearerProxyOptions): ProxyRoute {
  const checked = checkedProxyOptions(options)
  const send = sender(checked)
  const dial = dialer(checked)

  return async (visit) => {
    const refusal = refusalOfOrigin(visit, checked.allowedOrigins)
    if (refusal) return refusal
    const tokens = tokensOf(visit, checked.property)
    try {
      return await proxied(visit, tokens, checked, visit.isUpgrade ? dial : send)
    } catch (error) {
      if (isNobody(error)) return unauthorized()
      if (error instanceof StepUpError) return stepUpRequired(error)
      throw error
    }
  }
}

/** What `upgradesThrough()` allows, it allows for every proxy of the app. */
function refusalOfOrigin(visit: Visit, allowedOrigins: ReadonlySet<string>): Problem | undefined {
  const { host, protocol, request } = visit
  const refusal = crossOriginRefusal(request, { host, protocol }, allowedOrigins)
  return refusal && !allowedByUpgrades(request) ? refusal : undefined
}

function tokensOf({ carrier, carrierName }: Visit, property: string): OutboundTokens {
  const tokens = (carrier as Record<string, OutboundTokens | undefined>)[property]
  if (typeof tokens?.tokenToSend === 'function') return tokens
  throw new ConfigurationError(
    `${carrierName}.${property} is missing. Mount sessionTokens() before bearerProxy(), or name its \`property\`: ` +
      'bearerProxy({ property }).',
  )
}

async function proxied(
  visit: Visit,
  tokens: OutboundTokens,
  options: CheckedProxyOptions,
  send: Send,
): Promise<Reply> {
  const { request, signal } = visit
  const { method = 'GET' } = request
  const { maxReplayBytes, need, pathRewrite, replay, target } = options
  // Its answer is the request, with the token.
  if (method === 'TRACE') return problem(405, 'Method Not Allowed', 'TRACE is not passed on.')
  const path = await pathAtApi(target, pathRewrite, request)
  if (path === undefined) return problem(400, 'Bad Request', 'The path leads out of what is passed on.')

  const body = bodyOf(request, visit.parsed, mayReplay(replay, method) ? maxReplayBytes : 0)
  // http-proxy sends these with `Content-Length: 0` and then the chunks, which another request would begin with.
  if (body.headers['transfer-encoding'] !== undefined && /^(?:DELETE|OPTIONS)$/.test(method)) {
    return problem(411, 'Length Required', `A ${method} with a body must have a Content-Length.`)
  }
  const headers = {
    ...headersForApi(request.headers, options.withhold),
    ...body.headers,
    ...ownHeaders(visit, options),
  }
  try {
    return await sendAuthorized({
      tokens,
      need,
      get mayReplay() {
        return body.isKept && mayReplay(replay, method)
      },
      send: (token) => {
        const toApi = {
          method,
          path,
          headers: present(authorized(headers, token)),
          body: body.open.bind(body),
        }
        return attempt(toApi, body, token, send, signal)
      },
      wait: (work) => work,
    })
  } catch (error) {
    if (!signal.aborted) body.drain()
    throw error
  }
}

/** Sends the request once. An API that cannot be reached is answered for. */
async function attempt(
  request: ApiRequest,
  body: ProxyBody,
  token: string | undefined,
  send: Send,
  signal: AbortSignal,
): Promise<Attempt<Reply>> {
  // The browser may have gone while the token was waited for.
  signal.throwIfAborted()
  let exchange: Exchange
  try {
    exchange = await send(request, signal)
  } catch (error) {
    if (signal.aborted) throw error
    body.drain()
    return settled(unreachable(error))
  }
  const { answer, end } = exchange
  const { statusCode: status = 0 } = answer
  // Node takes it for an answer, and throws where it is to send one.
  if (status < 100) {
    end()
    body.drain()
    return settled(unreachable(new Error(`There is no status ${status}.`)))
  }
  const challenge = answer.headers['www-authenticate'] ?? ''
  return {
    verdict: token === undefined ? 'taken' : verdictOn(status, challenge, token),
    settle: () => {
      body.forget()
      answer.once('close', () => body.drain())
      return replyOf(exchange, token)
    },
    discard: end,
  }
}

function settled(reply: Reply): Attempt<Reply> {
  return { verdict: 'taken', settle: () => reply, discard() {} }
}

function unreachable(error: unknown): Reply {
  const { code } = error as { code?: unknown }
  return error instanceof SilentApi || code === 'ETIMEDOUT'
    ? problem(504, 'Gateway Timeout', 'The API did not answer in time.')
    : problem(502, 'Bad Gateway', 'The API could not be reached.')
}

/** What is said in place of what the request says. */
function ownHeaders(
  visit: Visit,
  { headers, xfwd }: CheckedProxyOptions,
): Record<string, string | undefined> {
  const own = Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value])
  const forwarded = {
    'x-forwarded-for': visit.ip,
    'x-forwarded-host': visit.host,
    'x-forwarded-proto': visit.protocol,
  }
  return { ...(xfwd && forwarded), ...Object.fromEntries(own) }
}

type Headers = Record<string, string | string[] | undefined>

function authorized(headers: Headers, token: string | undefined): Headers {
  return token === undefined ? headers : { ...headers, authorization: `Bearer ${token}` }
}

function present(headers: Headers): Headers {
  return Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined))
}

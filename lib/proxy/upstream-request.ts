import {
  type ClientRequest,
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
} from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { Socket } from 'node:net'
import { urlToHttpOptions } from 'node:url'
import { ownProperties } from '../options/own-properties.js'
import { mayReplay } from '../outbound/authorized-call.js'
import type { ClientCertificate } from '../tokens/client-certificate.js'
import type { ProxyBody } from './body.js'
import type { CheckedProxyOptions } from './options.js'
import type { ProxyRequest } from './proxy-request.js'
import { IdleTimer } from './response-timeout.js'

/** A request to the API. */
export interface UpstreamRequest {
  readonly method: string
  readonly path: string
  readonly body: ProxyBody
  /** The client certificate of the connection. */
  readonly certificate?: ClientCertificate
  setHeaders(sent: ClientRequest): void
  /** Replaces the parts of the request that may be sent only once, such as a proof, before the request is sent again. */
  renew?(): Promise<void>
}

/** A socket to the API that has become a WebSocket, and the bytes that the API has already sent over it. */
export interface UpgradedSocket {
  readonly socket: Socket
  readonly head: Buffer
}

/** The API's response, whose body is still to be read. */
export interface UpstreamResponse {
  /** The message. It leads to the request and its token, so no code outside of this library gets it. */
  readonly message: IncomingMessage
  /** The socket, if the API has agreed to a WebSocket. */
  readonly upgraded?: UpgradedSocket
  /** Ends the exchange. A request or a response that is not complete by then is broken off. */
  end(): void
}

/** Sends a request to the API. Rejects when there is no response. The request is broken off when the browser disconnects. */
export type SendUpstream = (request: UpstreamRequest, proxyRequest: ProxyRequest) => Promise<UpstreamResponse>

/**
 * The connections of all proxies without an `agent` of their own. They share it with no other client in the process, whose
 * errors may show the requests in flight over an agent. An idle connection is closed before a Node server would close it, after
 * 5 seconds, so that a request does not meet the end of its connection.
 */
const KEPT = { keepAlive: true, timeout: 4_000 }
const httpAgent = new HttpAgent(KEPT)
const httpsAgent = new HttpsAgent(KEPT)

/** Options that Node would otherwise read from `Object.prototype`, where an attacker may have made the app put them. */
const NOT_INHERITED = { auth: undefined, headers: undefined, insecureHTTPParser: undefined } as const

/**
 * Makes the function that sends requests. The API may close a kept connection at the moment of its next use: then a request
 * with an idempotent method (RFC 9110 §9.2.2) is sent once more, if its body can be.
 */
export function upstreamSender(options: CheckedProxyOptions): SendUpstream {
  const open = opener(options)
  const send: SendUpstream = (request, proxyRequest) =>
    sendOnce(open(request), request, proxyRequest, options.proxyTimeout)

  return async (request, proxyRequest) => {
    try {
      return await send(request, proxyRequest)
    } catch (error) {
      const isRepeatable = mayReplay('idempotent', request.method) && request.body.isKept
      if (!(error instanceof StaleConnectionError) || !isRepeatable || proxyRequest.isDisconnected)
        throw error
      await request.renew?.()
      return await send(request, proxyRequest)
    }
  }
}

/** The browser no longer waits. */
export class DisconnectedError extends Error {}

/** A kept connection ended as soon as it was used again. */
class StaleConnectionError extends Error {
  readonly code = 'ECONNRESET'
}

/** Begins a request without its headers: agents keep these options for as long as they keep the connection. */
function opener({
  agent,
  target,
}: CheckedProxyOptions): (
  request: Pick<UpstreamRequest, 'certificate' | 'method' | 'path'>,
) => ClientRequest {
  const isHttps = target.protocol === 'https:'
  const open = isHttps ? httpsRequest : httpRequest
  const { hostname, port = isHttps ? 443 : 80 } = urlToHttpOptions(target)
  const connection = { ...NOT_INHERITED, hostname, port, agent: agent ?? (isHttps ? httpsAgent : httpAgent) }
  // An agent keeps the connections of each certificate apart.
  return (request) => {
    const { certificate, method, path } = ownProperties(request)
    return open({ ...connection, ...certificate, method, path })
  }
}

function sendOnce(
  sent: ClientRequest,
  request: UpstreamRequest,
  proxyRequest: ProxyRequest,
  proxyTimeout: number,
): Promise<UpstreamResponse> {
  return new Promise((resolve, reject) => {
    let isPending = true
    const timer = new IdleTimer(proxyTimeout, fail)
    // A request that waits for a connection reports its end when it gets one, and so late is of no use.
    function fail(error: unknown): void {
      isPending = false
      reject(error)
      sent.destroy()
    }
    function responded(message: IncomingMessage, upgraded?: UpgradedSocket): void {
      isPending = false
      timer.stop()
      const carrier = upgraded?.socket ?? message
      carrier.on('error', ignore)
      const end = () => void (upgraded?.socket ?? sent).destroy()
      resolve(ownProperties({ message, end, ...(upgraded && { upgraded }) }))
    }
    const disconnected = () => fail(new DisconnectedError())
    // V8 makes a function literal that is assigned to a property long-lived, and all of the request with it.
    proxyRequest.onDisconnect = disconnected
    sent.on('response', responded)
    sent.on('error', (error) => {
      if (isPending) fail(isStale(sent, error) ? new StaleConnectionError() : error)
    })
    sent.on('close', () => {
      timer.stop()
      // Node emits no other event when the API changes the protocol unasked.
      if (isPending) fail(new Error('The API has closed the connection without a response.'))
    })
    if (proxyRequest.upgrade) {
      sent.on('upgrade', (message, socket, head) => responded(message, { socket: socket as Socket, head }))
    }
    try {
      request.setHeaders(sent)
    } catch (error) {
      fail(error)
      return
    }
    request.body.sendTo(sent, timer.restart)
  })
}

function isStale(sent: ClientRequest, error: NodeJS.ErrnoException): boolean {
  return sent.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE')
}

/** Ignores an error of a stream, whose reader sees its end. Without a listener an error would end the process. */
function ignore(): void {}

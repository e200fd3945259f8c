import {
  type ClientRequest,
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
} from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { Socket } from 'node:net'
import { urlToHttpOptions } from 'node:url'
import { mayReplay } from '../authorized-call.js'
import type { ProxyBody } from './body.js'
import type { Disconnect } from './disconnect.js'
import type { CheckedProxyOptions } from './options.js'
import { IdleTimer } from './response-timeout.js'

/** What is sent to the API. */
export interface UpstreamRequest {
  readonly method: string
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: ProxyBody
}

/** A socket to the API that has become a WebSocket, and the bytes that the API has already sent over it. */
export interface UpgradedSocket {
  readonly socket: Socket
  readonly head: Buffer
}

/** The API's response, whose body is still to be read. */
export interface UpstreamResponse {
  /** Leads to the request and its token: for this library alone. */
  readonly message: IncomingMessage
  /** When the API has agreed to a WebSocket. */
  readonly upgraded?: UpgradedSocket
  /** Ends it. A request or a response that is not complete by then is broken off. */
  end(): void
}

/** Sends a request to the API; rejects when there is no response. It is broken off when the browser disconnects. */
export type SendUpstream = (request: UpstreamRequest, disconnect: Disconnect) => Promise<UpstreamResponse>

/**
 * The connections of all proxies without an `agent` of their own. They share it with no other client in the process, whose
 * errors may show what is in flight over an agent. An idle connection is closed before a Node server would close it, after
 * 5 seconds, so that a request does not meet the end of its connection.
 */
const KEPT = { keepAlive: true, timeout: 4_000 }
const httpAgent = new HttpAgent(KEPT)
const httpsAgent = new HttpsAgent(KEPT)

/**
 * Sends requests. A kept connection may have been closed by the API at the moment of its next use: then a request with an
 * idempotent method (RFC 9110 §9.2.2) is sent once more, if its body can be.
 */
export function requestSender(options: CheckedProxyOptions): SendUpstream {
  const open = opener(options)
  const send: SendUpstream = (request, disconnect) =>
    sendOnce(open(request), request, options.proxyTimeout, disconnect)

  return async (request, disconnect) => {
    try {
      return await send(request, disconnect)
    } catch (error) {
      const isRepeatable = mayReplay('idempotent', request.method) && request.body.isKept
      if (!(error instanceof StaleConnectionError) || !isRepeatable || disconnect.hasHappened) throw error
      return await send(request, disconnect)
    }
  }
}

/** Asks the API for WebSockets. */
export function webSocketSender(options: CheckedProxyOptions): SendUpstream {
  const open = opener(options)

  return ({ method, path, headers }, disconnect) =>
    new Promise((resolve, reject) => {
      const sent = open({
        method,
        path,
        headers: { ...headers, connection: 'Upgrade', upgrade: 'websocket' },
      })
      const timer = new IdleTimer(options.proxyTimeout, fail)
      const end = () => void sent.destroy()
      function fail(error: unknown): void {
        reject(error)
        end()
      }
      disconnect.listener = () => fail(new DisconnectedError())
      sent.on('close', () => timer.stop())
      sent.on('error', reject)
      sent.on('response', (message) => {
        timer.stop()
        message.on('error', ignore)
        resolve({ message, end })
      })
      sent.on('upgrade', (message, socket, head) => {
        timer.stop()
        socket.on('error', ignore)
        resolve({ message, upgraded: { socket: socket as Socket, head }, end: () => void socket.destroy() })
      })
      sent.end()
    })
}

/** The browser no longer waits. */
export class DisconnectedError extends Error {}

/** A kept connection ended as soon as it was used again. */
class StaleConnectionError extends Error {
  readonly code = 'ECONNRESET'
}

type Open = (request: Pick<UpstreamRequest, 'method' | 'path' | 'headers'>) => ClientRequest

function opener({ agent, target }: CheckedProxyOptions): Open {
  const isHttps = target.protocol === 'https:'
  const open = isHttps ? httpsRequest : httpRequest
  const { protocol, hostname, port } = urlToHttpOptions(target)
  const connection = {
    ...{ protocol, hostname, agent: agent ?? (isHttps ? httpsAgent : httpAgent) },
    ...(port !== undefined && { port }),
  }
  return ({ method, path, headers }) => open({ ...connection, method, path, headers })
}

function sendOnce(
  sent: ClientRequest,
  { body }: UpstreamRequest,
  proxyTimeout: number,
  disconnect: Disconnect,
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
    disconnect.listener = () => fail(new DisconnectedError())
    sent.on('response', (message: IncomingMessage) => {
      isPending = false
      timer.stop()
      message.on('error', ignore)
      resolve({ message, end: () => void sent.destroy() })
    })
    sent.on('error', (error) => {
      if (isPending) fail(isStale(sent, error) ? new StaleConnectionError() : error)
    })
    sent.on('close', () => {
      timer.stop()
      // Node tells of nothing else when the API changes the protocol unasked.
      if (isPending) fail(new Error('The API has closed the connection without a response.'))
    })
    body.sendTo(sent, timer.restart)
  })
}

function isStale(sent: ClientRequest, error: NodeJS.ErrnoException): boolean {
  return sent.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE')
}

/** A stream's reader sees its end; without a listener an error would end the process. */
function ignore(): void {}

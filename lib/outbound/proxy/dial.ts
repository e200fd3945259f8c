import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { Socket } from 'node:net'
import type { Exchange, Send } from './exchange.js'
import { Silence } from './failure.js'
import type { CheckedProxyOptions } from './options.js'

/**
 * Asks the API for WebSockets. Not with http-proxy-middleware: it answers the browser itself when the API says no or cannot
 * be reached, copies every header of the API's, and keeps a socket whose other end has gone.
 */
export function dialer({ agent, proxyTimeout, target }: CheckedProxyOptions): Send {
  const open = target.protocol === 'https:' ? httpsRequest : httpRequest

  return ({ method, path, headers }, signal) =>
    new Promise<Exchange>((resolve, reject) => {
      const upgrading = { ...headers, connection: 'Upgrade', upgrade: 'websocket' }
      const sent = open(target, { method, path, headers: upgrading, signal, ...(agent && { agent }) })
      const silence = new Silence(proxyTimeout, (error) => sent.destroy(error))
      const end = () => void sent.destroy()
      sent.on('close', () => silence.end())
      sent.on('error', reject)
      sent.on('response', (answer) => {
        silence.end()
        answer.on('error', () => {})
        resolve({ answer, end })
      })
      sent.on('upgrade', (answer, socket, head) => {
        silence.end()
        socket.on('error', () => {})
        resolve({ answer, upgraded: { socket: socket as Socket, head }, end: () => void socket.destroy() })
      })
      sent.end()
    })
}

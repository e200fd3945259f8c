import http, { type ClientRequest, type IncomingMessage, type RequestOptions } from 'node:http'
import https from 'node:https'
import { failOnUpgrade } from '../../concurrency/unexpected-upgrade.js'
import type { ClientCertificate } from '../../tokens/client-certificate.js'

/**
 * Makes a transport of axios that takes the token out of the options once Node has sent off the request: an agent keeps them
 * for as long as it keeps the connection, longer than the grant may live.
 *
 * @param timeout bounds connecting as well, in milliseconds; axios does so over Node's own transports alone
 * @param certificate the client certificate of the connection
 */
export function forgetfulTransport(timeout = 0, certificate?: ClientCertificate): object {
  return {
    request(options: RequestOptions, respond: (response: IncomingMessage) => void): ClientRequest {
      const { request } = options.protocol === 'https:' ? https : http
      // The options for redirects lead to the configuration of the call.
      // An agent keeps the connections of each certificate apart.
      const own = { ...options, ...certificate, beforeRedirects: undefined }
      const sent = request(own as RequestOptions, respond)
      failOnUpgrade(sent)
      const headers = options.headers as Record<string, unknown>
      delete headers.Authorization
      delete headers.DPoP
      if (timeout > 0) {
        const timer = setTimeout(() => sent.emit('timeout'), timeout)
        sent.once('close', () => clearTimeout(timer)).once('response', () => clearTimeout(timer))
      }
      return sent
    },
  }
}

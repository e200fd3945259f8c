import type { CustomFetch } from 'openid-client'
import { OwnError, type TokenError } from '../errors/token-error.js'
import { type HttpOptions, httpClient, secretsOfHeaders } from '../oauth/http.js'
import { ownProperties } from '../options/own-properties.js'
import type { ClientCertificate } from '../tokens/client-certificate.js'

/** The response headers that openid-client reads. */
const HEADERS = ['content-type', 'dpop-nonce', 'www-authenticate']

/**
 * Makes the function with which openid-client sends its requests: through this library's HTTP client, so that agents, proxy and
 * headers are those of `sessionTokens()`.
 *
 * @param certificate resolves with the client certificate of the connections (RFC 8705). Metadata and keys are fetched without it
 */
export function providerFetch(
  http: HttpOptions | undefined,
  timeoutMs: number,
  certificate: () => Promise<ClientCertificate | undefined>,
): CustomFetch {
  const send = httpClient(http, timeoutMs)
  const secrets = secretsOfHeaders(http?.headers)

  return async function fetchFromProvider(url, options) {
    const { body, headers, method, signal } = ownProperties(options)
    const { 'user-agent': _, ...rest } = headers
    const isPublic = method === 'GET' && rest.authorization === undefined
    const ofClient = isPublic ? undefined : await certificate()
    const {
      status,
      header,
      body: received,
    } = await send({
      describe: () => 'The authorization server',
      where: () => url,
      method: method as 'GET' | 'POST',
      url,
      headers: rest,
      ...(body && { body: String(body) }),
      ...(ofClient && { certificate: ofClient }),
      secrets: () => secrets,
      signal: signal ?? new AbortController().signal,
    }).catch((error: TokenError) => {
      if (error.code === 'ERR_CLIENT_REJECTED') throw error
      signal?.throwIfAborted()
      // As fetch() says it, so that a `customFetch` of the app gives the same LoginError. The code is for the operator.
      throw Object.assign(new TypeError('fetch failed'), {
        code: (error.cause as { code?: unknown } | undefined)?.code,
      })
    })
    if ('flaw' in received) {
      throw Object.assign(new OwnError(`The response of the authorization server ${received.flaw}.`), {
        status,
      })
    }
    const found = HEADERS.flatMap((name) => {
      const value = header(name)
      return value === undefined ? [] : [[name, value] as [string, string]]
    })
    return new Response(received.text || null, { status, headers: found })
  }
}

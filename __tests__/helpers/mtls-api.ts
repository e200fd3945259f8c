import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { certificate } from './certificate.js'
import type { Certificate, MtlsServer } from './mtls-server.js'

/** An API that takes a token over a connection with the certificate that the token is bound to, and over no other. */
export interface MtlsApi {
  readonly url: string
  /** The certificate of the API itself. */
  readonly own: Certificate
  /** The fingerprints of the certificates of the requests. */
  readonly certificates: readonly (string | undefined)[]
  /** Where `/elsewhere` redirects to. */
  elsewhere: string
  close(): Promise<void>
}

/** Starts an API of an authorization server. */
export async function startMtlsApi(
  server: Pick<MtlsServer, 'boundTo'>,
  own = certificate(),
): Promise<MtlsApi> {
  const certificates: (string | undefined)[] = []
  const api = createServer(
    { ...own, requestCert: true, rejectUnauthorized: false },
    async (request, response) => {
      const { raw, fingerprint256 } = (request.socket as TLSSocket).getPeerCertificate()
      certificates.push(fingerprint256)
      const [, token = ''] = /^Bearer (.+)$/.exec(request.headers.authorization ?? '') ?? []
      const bound = await server.boundTo(token)
      const isBound = bound !== undefined && raw !== undefined && bound === thumbprint(raw)
      const isAway = request.url === '/elsewhere'
      response.writeHead(isAway ? 302 : isBound ? 200 : 401, {
        ...(isAway && { location: self.elsewhere }),
        'content-type': 'application/json',
        'www-authenticate': 'Bearer error="invalid_token"',
      })
      response.end(JSON.stringify({ isBound }))
    },
  )
  api.listen(0, '127.0.0.1')
  await once(api, 'listening')
  const self = {
    url: `https://localhost:${(api.address() as AddressInfo).port}`,
    own,
    certificates,
    elsewhere: '/',
    async close() {
      api.close()
      api.closeAllConnections()
    },
  }
  return self
}

/** The value of `x5t#S256` (RFC 8705 §3.1). */
function thumbprint(raw: Buffer): string {
  const { fingerprint256 } = new X509Certificate(raw)
  return Buffer.from(fingerprint256.replaceAll(':', ''), 'hex').toString('base64url')
}

import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import type { RequestListener } from 'node:http'
import { createServer } from 'node:https'
import type { TLSSocket } from 'node:tls'
import { exportJWK, SignJWT } from 'jose'
import type { Browser, BrowserAnswer } from './browser.js'
import { certificate } from './certificate.js'
import { readBody, send } from './http-server.js'
import { listening, urlOf } from './mtls-server.js'

/** A request that a provider got. */
export interface ProviderRequest {
  readonly path: string
  readonly userAgent: string | undefined
  /** Whether it came to the endpoints for client certificates (RFC 8705 §5). */
  readonly isAlias: boolean
  /** The fingerprint of the client certificate. */
  readonly fingerprint: string | undefined
}

/** A provider over https, whose certificate no process trusts by itself. */
export interface TlsProvider {
  readonly issuer: string
  readonly ca: string
  readonly requests: readonly ProviderRequest[]
  close(): void
}

/**
 * Starts a provider for the client `login-app`. A code of it is the nonce of its login, and its user is `ann`. Its second port has
 * the endpoints for client certificates. Both ports take any client certificate, or none. With `isStrict` the second one
 * refuses every certificate: one whose key is not on the curve P-256 with an alert.
 */
export async function startTlsProvider({ isStrict = false } = {}): Promise<TlsProvider> {
  const own = certificate()
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const requests: ProviderRequest[] = []
  const listener =
    (isAlias: boolean): RequestListener =>
    async (request, response) => {
      const { url: path = '', headers, socket } = request
      const { raw } = (socket as TLSSocket).getPeerCertificate()
      const fingerprint = raw && new X509Certificate(raw).fingerprint256
      requests.push({ path, userAgent: headers['user-agent'], isAlias, fingerprint })
      const code = new URLSearchParams(await readBody(request)).get('code')
      send(response, { status: 200, body: await bodies[path]?.(code) })
    }
  const asking = { ...own, requestCert: true, rejectUnauthorized: false }
  const main = await listening(createServer(asking, listener(false)))
  const mutual = await listening(createServer({ ...asking, ...(isStrict && STRICT) }, listener(true)))
  const [issuer, alias] = [urlOf(main), urlOf(mutual)]
  const idToken = (nonce: string | null) =>
    new SignJWT(nonce === null ? {} : { nonce })
      .setProtectedHeader({ alg: 'ES256' })
      .setIssuer(issuer)
      .setAudience('login-app')
      .setSubject('ann')
      .setIssuedAt()
      .setExpirationTime('1h')
      .sign(privateKey)
  const bodies: Record<string, (code: string | null) => unknown> = {
    '/.well-known/openid-configuration': () => ({
      issuer,
      authorization_endpoint: `${issuer}/auth`,
      token_endpoint: `${issuer}/token`,
      userinfo_endpoint: `${issuer}/userinfo`,
      jwks_uri: `${issuer}/jwks`,
      response_types_supported: ['code'],
      id_token_signing_alg_values_supported: ['ES256'],
      mtls_endpoint_aliases: { token_endpoint: `${alias}/token`, userinfo_endpoint: `${alias}/userinfo` },
    }),
    '/jwks': async () => ({ keys: [{ ...(await exportJWK(publicKey)), alg: 'ES256', use: 'sig' }] }),
    '/userinfo': () => ({ sub: 'ann', name: 'Ann' }),
    '/token': async (code) => ({
      access_token: 'at',
      token_type: 'Bearer',
      expires_in: 300,
      refresh_token: 'rt',
      id_token: await idToken(code),
    }),
  }
  return {
    issuer,
    ca: own.cert,
    requests,
    close() {
      for (const server of [main, mutual]) {
        server.close()
        server.closeAllConnections()
      }
    },
  }
}

/** With this, the client sends no certificate, and the server refuses that with an alert. */
const STRICT = { sigalgs: 'ECDSA+SHA256', rejectUnauthorized: true }

/** Logs a user of the provider in at a site. */
export async function logInAt(site: {
  browser(): Browser
  step(visitor: Browser, path: string): Promise<BrowserAnswer>
}): Promise<Browser> {
  const visitor = site.browser()
  const sent = await site.step(visitor, '/login')
  const { searchParams } = new URL(sent.headers.get('location') ?? 'about:blank')
  const { state = '', nonce = '' } = Object.fromEntries(searchParams)
  await site.step(visitor, `/callback?${new URLSearchParams({ state, code: nonce })}`)
  return visitor
}

import { randomBytes, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import type { RequestListener } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { type ClientMetadata, Provider } from 'oidc-provider'
import { certificate } from './certificate.js'
import { oidcStorage } from './oidc-storage.js'

export type Certificate = ReturnType<typeof certificate>

/** The APIs that a user's tokens may be for. */
export const RESOURCES = ['https://api.example/a', 'https://api.example/b'] as const

/** An authorization server (oidc-provider) with a second port, whose TLS asks for certificates. */
export interface MtlsServer {
  readonly issuer: string
  /** The certificate of both ports. */
  readonly ca: string
  /** The requests to the token endpoints: the port that got them, and the fingerprint of the client's certificate. */
  readonly requests: readonly {
    readonly isAlias: boolean
    readonly fingerprint: string | undefined
    readonly path: string
  }[]
  /** Gives a user's refresh token to a client. */
  refreshToken(clientId: string): Promise<string>
  /** The thumbprint of the certificate that a token is bound to (RFC 8705 §3.1). */
  boundTo(token: string): Promise<string | undefined>
  close(): Promise<void>
}

/** @param trusted the certificates that count as issued by an authority; with `isStrict` the handshake refuses all others */
export async function startMtlsServer(
  clients: ClientMetadata[],
  {
    isStrict = false,
    trusted = [],
  }: { readonly isStrict?: boolean; readonly trusted?: readonly Certificate[] } = {},
): Promise<MtlsServer> {
  const own = certificate()
  const requests: { isAlias: boolean; fingerprint: string | undefined; path: string }[] = []
  let provider!: Provider
  const listener =
    (isAlias: boolean): RequestListener =>
    (request, response) => {
      const { fingerprint256 } = (request.socket as TLSSocket).getPeerCertificate()
      requests.push({ isAlias, fingerprint: fingerprint256, path: request.url ?? '' })
      provider.callback()(request, response)
    }
  const ca = trusted.map(({ cert }) => cert)
  const plain = await listening(createServer(own, listener(false)))
  const options = { ...own, requestCert: true, rejectUnauthorized: isStrict, ca }
  const mutual = await listening(createServer(options, listener(true)))
  const issuer = urlOf(plain)
  const socketOf = (ctx: { socket: unknown }) => ctx.socket as TLSSocket
  provider = new Provider(issuer, {
    adapter: oidcStorage(clients),
    cookies: { keys: [randomBytes(16).toString('hex')] },
    clientAuthMethods: ['tls_client_auth', 'self_signed_tls_client_auth'],
    discovery: { mtls_endpoint_aliases: { token_endpoint: `${urlOf(mutual)}/token` } },
    rotateRefreshToken: true,
    scopes: ['openid', 'offline_access', 'orders.read'],
    findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: (_, __, oneOf) => oneOf?.[0] as string,
        getResourceServerInfo: (_, resource) => ({
          audience: resource,
          scope: 'orders.read',
          accessTokenFormat: 'opaque',
        }),
      },
      mTLS: {
        enabled: true,
        certificateBoundAccessTokens: true,
        selfSignedTlsClientAuth: true,
        tlsClientAuth: true,
        getCertificate(ctx) {
          const { raw } = socketOf(ctx).getPeerCertificate()
          return raw ? new X509Certificate(raw) : undefined
        },
        certificateAuthorized: (ctx) => socketOf(ctx).authorized,
        certificateSubjectMatches: (ctx, _, expected) =>
          `CN=${socketOf(ctx).getPeerCertificate().subject?.CN}` === expected,
      },
    },
  })
  return {
    issuer,
    ca: own.cert,
    requests,
    async refreshToken(clientId) {
      const scope = 'openid offline_access orders.read'
      const grant = new provider.Grant({ accountId: 'user', clientId })
      grant.addOIDCScope(scope)
      for (const resource of RESOURCES) grant.addResourceScope(resource, 'orders.read')
      const client = (await provider.Client.find(clientId))!
      const token = new provider.RefreshToken({
        ...{ accountId: 'user', client, grantId: await grant.save(), scope, gty: 'authorization_code' },
        ...{ resource: [...RESOURCES], rotations: 0, iiat: Math.floor(Date.now() / 1000) },
      } as never)
      return token.save()
    },
    async boundTo(token) {
      const { AccessToken, ClientCredentials } = provider
      const found = (await AccessToken.find(token)) ?? (await ClientCredentials.find(token))
      return (found as { 'x5t#S256'?: string } | undefined)?.['x5t#S256']
    },
    async close() {
      for (const server of [plain, mutual]) {
        server.close()
        server.closeAllConnections()
      }
    },
  }
}

/** Has a server listen on any port of the loopback interface. */
export async function listening(server: Server): Promise<Server> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server
}

export function urlOf(server: Server): string {
  return `https://localhost:${(server.address() as AddressInfo).port}`
}

/** How a client with these certificates of its own is registered. */
export function selfSignedClient(clientId: string, certificates: readonly Certificate[]): ClientMetadata {
  const keys = certificates.map(({ cert }, index) => {
    const read = new X509Certificate(cert)
    return {
      ...read.publicKey.export({ format: 'jwk' }),
      kid: `${index}`,
      x5c: [read.raw.toString('base64')],
    }
  })
  return {
    ...registration(clientId),
    token_endpoint_auth_method: 'self_signed_tls_client_auth',
    jwks: { keys: keys as never },
  }
}

/** How a client is registered whose certificate an authority has issued to `localhost`. */
export function issuedClient(clientId: string): ClientMetadata {
  return {
    ...registration(clientId),
    token_endpoint_auth_method: 'tls_client_auth',
    tls_client_auth_subject_dn: 'CN=localhost',
  }
}

function registration(clientId: string): ClientMetadata {
  return {
    client_id: clientId,
    redirect_uris: ['https://app.example.com/callback'],
    grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
    scope: 'openid offline_access orders.read',
    tls_client_certificate_bound_access_tokens: true,
  }
}

import { randomUUID } from 'node:crypto'
import { exportJWK, generateKeyPair, SignJWT, UnsecuredJWT } from 'jose'
import { type HttpServer, serve } from './http-server.js'

/** The event of a logout token. */
export const LOGOUT_EVENT = 'http://schemas.openid.net/event/backchannel-logout'

export type Claims = Record<string, unknown>

/** An issuer with metadata and keys, whose tokens a test makes as it likes. */
export interface TestIssuer {
  readonly issuer: string
  readonly server: HttpServer
  /** The tokens of a login, with an ID token. */
  login(
    sub: string,
    claims?: Claims,
  ): Promise<{ access_token: string; refresh_token: string; id_token: string }>
  /** A logout token. A claim that is `undefined` is left out. */
  logoutToken(claims: Claims, header?: Claims): Promise<string>
  /** The same, signed with a secret that the client has too, or not at all. */
  logoutTokenWith(alg: 'HS256' | 'none' | 'other key', claims: Claims): Promise<string>
}

const CLIENT_ID = 'basic'

/** Starts an issuer that has logged users in to a client. */
export async function startTestIssuer(clientId = CLIENT_ID): Promise<TestIssuer> {
  const keys = await generateKeyPair('ES256', { extractable: true })
  const strangers = await generateKeyPair('ES256')
  const jwk = { ...(await exportJWK(keys.publicKey)), alg: 'ES256', use: 'sig', kid: 'one' }
  const server = await serve((url) => (request, response) => {
    const bodies: Record<string, unknown> = {
      '/.well-known/openid-configuration': {
        issuer: url,
        token_endpoint: `${url}/token`,
        revocation_endpoint: `${url}/revoke`,
        jwks_uri: `${url}/jwks`,
        end_session_endpoint: `${url}/logout?ui=1`,
      },
      '/jwks': { keys: [jwk] },
      '/revoke': {},
    }
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(JSON.stringify(bodies[request.url ?? ''] ?? {}))
  })
  const issuer = server.url
  const now = () => Math.floor(Date.now() / 1000)
  const logoutClaims = (claims: Claims): Claims => ({
    iss: issuer,
    aud: clientId,
    iat: now(),
    exp: now() + 120,
    jti: randomUUID(),
    events: { [LOGOUT_EVENT]: {} },
    ...claims,
  })
  const withoutUndefined = (claims: Claims) => JSON.parse(JSON.stringify(claims)) as Claims
  const signed = (claims: Claims, header: Claims = {}) =>
    new SignJWT(withoutUndefined(claims))
      .setProtectedHeader(withoutUndefined({ alg: 'ES256', kid: 'one', ...header }) as { alg: string })
      .sign(keys.privateKey)

  return {
    issuer,
    server,
    async login(sub, claims = {}) {
      const idToken = await signed({
        iss: issuer,
        aud: clientId,
        sub,
        iat: now() - 1,
        exp: now() + 600,
        ...claims,
      })
      return {
        access_token: randomUUID(),
        refresh_token: randomUUID(),
        id_token: idToken,
      }
    },
    logoutToken: (claims, header = {}) => signed(logoutClaims(claims), { typ: 'logout+jwt', ...header }),
    async logoutTokenWith(alg, claims) {
      const complete = withoutUndefined(logoutClaims(claims))
      if (alg === 'none') return new UnsecuredJWT(complete).encode()
      const jwt = new SignJWT(complete)
      if (alg === 'HS256') {
        return jwt.setProtectedHeader({ alg }).sign(Buffer.from('a secret of thirty-two characters'))
      }
      return jwt.setProtectedHeader({ alg: 'ES256', kid: 'one' }).sign(strangers.privateKey)
    },
  }
}

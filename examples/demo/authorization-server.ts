import { generateKeyPairSync, randomBytes } from 'node:crypto'
import type { RequestListener } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import express, { type Request, type RequestHandler, type Response } from 'express'
import type { ClientAuthMethod, Configuration, KoaContextWithOIDC, Provider } from 'oidc-provider'
import { page, readPage } from './page.js'
import { memoryStorage } from './storage.js'
import { fingerprint, type Timeline } from './timeline.js'
import { exchangeTokens, TOKEN_EXCHANGE } from './token-exchange.js'

// oidc-provider recommends a Node.js version by console.warn, which the demo suppresses.
const { warn } = console
console.warn = () => {}
const oidc = await import('oidc-provider').finally(() => {
  console.warn = warn
})

const DEMO_USER = 'demo user'
const DAY_SECONDS = 86_400

/** An API that access tokens are for (RFC 8707). */
export interface ProtectedApi {
  /** Its name in requests and tokens. */
  readonly resource: string
  /** Its scopes, separated by spaces. */
  readonly scope: string
}

export interface AuthorizationServerOptions {
  readonly issuer: string
  readonly client: {
    readonly id: string
    readonly secret: string
    /** All of one origin. */
    readonly redirectUris: readonly [string, ...string[]]
    readonly authentication: ClientAuthMethod
    /** Where browsers may go after a logout here (OpenID Connect RP-Initiated Logout). */
    readonly postLogoutRedirectUri?: string
  }
  /** Tokens requested without a `resource` are for the first. */
  readonly apis: readonly [ProtectedApi, ...ProtectedApi[]]
  readonly accessTokenSeconds: number
  /** How long a request to the token endpoint is under way, as on the internet, in milliseconds. Default: 0. */
  readonly latencyMs?: number | undefined
  readonly timeline: Timeline
}

/** A response of the token endpoint (RFC 6749 §5.1, §5.2). */
interface TokenAnswer {
  access_token: string
  refresh_token: string
  expires_in: number
  error: string
}

/**
 * An authorization server with one user and one client (oidc-provider). Access tokens are short-lived JWTs (RFC 9068).
 * Refresh tokens are used once; a second use ends the grant.
 */
export function authorizationServer(options: AuthorizationServerOptions): {
  readonly provider: Provider
  readonly listener: RequestListener
} {
  const provider = new oidc.Provider(options.issuer, configuration(options))
  exchangeTokens(provider, options.apis, oidc.errors)
  provider.use(async (ctx, next) => {
    await next()
    tell(options.timeline, ctx as KoaContextWithOIDC)
  })

  const app = express()
  const { origin } = new URL(options.client.redirectUris[0])
  // The browser applies form-action to the redirects that follow as well.
  app.get('/interaction/:uid', page('login.html', { formAction: `'self' ${origin}` }))
  app.post('/interaction/:uid', (req, res) => logIn(provider, options.apis, req, res))
  if (options.latencyMs) app.post('/token', underWay(options.latencyMs))
  app.use(provider.callback())
  return { provider, listener: app }
}

/** Holds requests until no other one has arrived for a while: those of one moment are under way together, on a slow machine too. */
function underWay(latencyMs: number): RequestHandler {
  let lastAt = 0
  return async (_req, _res, next) => {
    lastAt = performance.now()
    for (let left = latencyMs; left > 0; left = lastAt + latencyMs - performance.now()) await sleep(left)
    next()
  }
}

function configuration({ client, apis, accessTokenSeconds }: AuthorizationServerOptions): Configuration {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const logout = readPage('logout.html', { formAction: `'self' ${new URL(client.redirectUris[0]).origin}` })
  return {
    adapter: memoryStorage([
      {
        client_id: client.id,
        client_secret: client.secret,
        token_endpoint_auth_method: client.authentication,
        redirect_uris: [...client.redirectUris],
        post_logout_redirect_uris: [client.postLogoutRedirectUri ?? []].flat(),
        grant_types: ['authorization_code', 'refresh_token', 'client_credentials', TOKEN_EXCHANGE],
        response_types: ['code'],
        id_token_signed_response_alg: 'ES256',
      },
    ]),
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig' } as never] },
    cookies: { keys: [randomBytes(32).toString('hex')] },
    scopes: ['openid', 'offline_access', ...apis.flatMap(({ scope }) => scope.split(' '))],
    rotateRefreshToken: true,
    ttl: {
      AccessToken: accessTokenSeconds,
      AuthorizationCode: 60,
      ClientCredentials: accessTokenSeconds,
      Grant: DAY_SECONDS,
      IdToken: 3600,
      Interaction: 600,
      RefreshToken: DAY_SECONDS,
      Session: DAY_SECONDS,
    },
    // When the user logged in, for an API that asks for a recent login (RFC 9470 §5).
    extraTokenClaims({ oidc: { entities } }) {
      const { RefreshToken, AuthorizationCode } = entities
      return { auth_time: (RefreshToken ?? AuthorizationCode)?.authTime }
    },
    findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      // The address bar shows what is asked for.
      pushedAuthorizationRequests: { enabled: false },
      revocation: { enabled: true, allowedPolicy: (_, client, token) => token.clientId === client.clientId },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => apis[0].resource,
        useGrantedResource: () => true,
        getResourceServerInfo(_, resource) {
          const api = apis.find((api) => api.resource === resource)
          if (!api) throw new oidc.errors.InvalidTarget()
          const { scope } = api
          return { audience: resource, scope, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } }
        },
      },
      rpInitiatedLogout: {
        logoutSource(ctx, form) {
          ctx.set(logout.headers)
          ctx.body = logout.html.replace('<!-- form -->', form)
        },
      },
    },
  }
}

/** Handles the button of the login page: the demo user logs in and grants the client's request. */
async function logIn(
  provider: Provider,
  apis: readonly ProtectedApi[],
  req: Request,
  res: Response,
): Promise<void> {
  const { params } = await provider.interactionDetails(req, res)
  const grant = new provider.Grant({ accountId: DEMO_USER, clientId: String(params.client_id) })
  grant.addOIDCScope(String(params.scope))
  for (const { resource, scope } of apis) grant.addResourceScope(resource, scope)
  const result = { login: { accountId: DEMO_USER }, consent: { grantId: await grant.save() } }
  await provider.interactionFinished(req, res, result)
}

function tell(timeline: Timeline, { oidc, status, body }: KoaContextWithOIDC): void {
  // Requests to other endpoints have another route, and requests outside of all endpoints have no `oidc`.
  const route = oidc?.route
  if (route !== 'token' && route !== 'revocation') return
  const params = oidc.params ?? {}
  const presented = route === 'token' ? params.refresh_token : params.token
  const { access_token, refresh_token, expires_in, error } = (body || {}) as Partial<TokenAnswer>
  timeline.token({
    request: route === 'token' ? String(params.grant_type) : route,
    status,
    ...(error !== undefined && { error }),
    ...(presented !== undefined && { presented: fingerprint(String(presented)) }),
    ...(access_token !== undefined && { accessToken: fingerprint(access_token) }),
    ...(refresh_token !== undefined && { refreshToken: fingerprint(refresh_token) }),
    ...(expires_in !== undefined && { expiresIn: expires_in }),
  })
}

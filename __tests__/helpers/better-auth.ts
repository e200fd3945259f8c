import { randomBytes } from 'node:crypto'
import { oauthProvider } from '@better-auth/oauth-provider'
import { type BetterAuthPlugin, betterAuth } from 'better-auth'
import { memoryAdapter } from 'better-auth/adapters/memory'
import { getAuthTables } from 'better-auth/db'
import { toNodeHandler } from 'better-auth/node'
import { jwt } from 'better-auth/plugins/jwt'
import { createGate, type Gate } from './gate.js'
import { serve } from './http-server.js'
import { withMode } from './login-site.js'

/** A token request, and the response to it. */
export interface RecordedTokenRequest {
  readonly parameters: Readonly<Record<string, string>>
  readonly status: number
  readonly response: Readonly<Record<string, unknown>>
}

/** The OpenID provider of better-auth. It rotates refresh tokens, and ends all grants of a user when one is used twice. */
export interface BetterAuth {
  readonly issuer: string
  readonly client: { readonly clientId: string; readonly clientSecret: string }
  readonly user: { readonly id: string; readonly email: string; readonly password: string }
  /** The token requests so far, in the order of their responses. */
  readonly tokenRequests: readonly RecordedTokenRequest[]
  /** From now on token requests wait before they reach the provider. */
  hold(): Gate
  /** Presents a refresh token, as the client. */
  refresh(refreshToken: string): Promise<RecordedTokenRequest>
  close(): Promise<void>
}

/** Starts the provider on 127.0.0.1, with a user and a client. Its users and tokens are in memory. */
export async function startBetterAuth(appUrl: string): Promise<BetterAuth> {
  const tokenRequests: RecordedTokenRequest[] = []
  let gate: Gate | undefined
  let auth!: ReturnType<typeof authAt>
  const server = await serve((url) => {
    auth = authAt(url)
    const recorded = async (request: Request): Promise<Response> => {
      if (!request.url.endsWith('/oauth2/token')) return auth.handler(request)
      await gate?.pass()
      const parameters = Object.fromEntries(new URLSearchParams(await request.clone().text()))
      const response = await auth.handler(request)
      const { status } = response
      tokenRequests.push({ parameters, status, response: await response.clone().json() })
      return response
    }
    return withMode(toNodeHandler(recorded))
  })
  const account = { email: 'alice@example.com', password: 'the password of Alice' }
  const { headers, response } = await auth.api.signUpEmail({
    body: { ...account, name: 'Alice' },
    returnHeaders: true,
  })
  const registered = await registrarOf(auth).adminCreateOAuthClient({
    headers: new Headers({ cookie: headers.get('set-cookie')! }),
    body: {
      redirect_uris: [`${appUrl}/callback`],
      post_logout_redirect_uris: [`${appUrl}/`],
      enable_end_session: true,
      application_type: 'native',
      token_endpoint_auth_method: 'client_secret_basic',
      grant_types: ['authorization_code', 'refresh_token'],
      scope: 'openid offline_access email',
    },
  })
  const issuer = `${server.url}/api/auth`
  const client = { clientId: registered.client_id, clientSecret: registered.client_secret }
  return {
    issuer,
    client,
    user: { ...account, id: response.user.id },
    tokenRequests,
    hold() {
      gate = createGate()
      return gate
    },
    async refresh(refreshToken) {
      const credentials = Buffer.from(`${client.clientId}:${client.clientSecret}`).toString('base64')
      await fetch(`${issuer}/oauth2/token`, {
        method: 'POST',
        headers: { authorization: `Basic ${credentials}` },
        body: new URLSearchParams({ grant_type: 'refresh_token', refresh_token: refreshToken }),
      })
      return tokenRequests.at(-1)!
    },
    close: server.down,
  }
}

/** The types of the plugin do not go with `exactOptionalPropertyTypes`. This is what is used of it. */
interface Registrar {
  adminCreateOAuthClient(request: {
    headers: Headers
    body: object
  }): Promise<{ client_id: string; client_secret: string }>
}

function registrarOf({ api }: { api: object }): Registrar {
  return api as Registrar
}

function authAt(baseURL: string) {
  const pages = { loginPage: '/sign-in', consentPage: '/consent' }
  const silenceWarnings = { oauthAuthServerConfig: true, openidConfig: true }
  const provider = oauthProvider({ ...pages, silenceWarnings }) as unknown as BetterAuthPlugin
  const plugins = [jwt(), provider]
  const tables = Object.keys(getAuthTables({ plugins }))
  return betterAuth({
    baseURL,
    secret: randomBytes(32).toString('base64'),
    database: memoryAdapter(Object.fromEntries(tables.map((table) => [table, []]))),
    emailAndPassword: { enabled: true },
    rateLimit: { enabled: false },
    telemetry: { enabled: false },
    plugins,
  })
}

import { afterAll, afterEach, beforeAll, beforeEach, jest } from '@jest/globals'
import { clientSecretBasic, type SessionTokensOptions } from '../../lib/index.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { FrameworkApp, FrameworkDriver } from './framework-driver.js'

/** The apps of a framework's tests, in front of one authorization server. To be called in a `describe()`. */
export function frameworkApps(driver: FrameworkDriver) {
  let server: AuthorizationServer
  const closers: (() => Promise<unknown>)[] = []
  const closing = (close: () => Promise<unknown>) => void closers.push(close)

  beforeAll(async () => {
    server = await startAuthorizationServer()
  })
  beforeEach(() => {
    // Express writes errors there that nobody else answers.
    jest.spyOn(console, 'error').mockImplementation(() => {})
  })
  afterEach(async () => {
    jest.restoreAllMocks()
    for (const close of closers.splice(0).reverse()) await close()
  })
  afterAll(() => server.close())

  return {
    get server() {
      return server
    },
    closing,
    app: () => driver.app(closing),
    options(options: Partial<SessionTokensOptions> = {}): SessionTokensOptions {
      const { clientId, clientSecret } = server.clients.client_secret_basic
      return {
        tokenEndpoint: server.tokenEndpoint,
        revocationEndpoint: server.revocationEndpoint,
        clientId,
        clientAuthentication: clientSecretBasic(clientSecret),
        encryptionKeys: false,
        ...options,
      } as SessionTokensOptions
    },
    /** Paths for a user to log in, to see, and to log out. */
    usual(app: FrameworkApp): void {
      app.handle('/login', ({ body, tokens }) => tokens.set(body))
      app.handle('/token', ({ tokens }) => tokens.getAccessToken())
      app.handle('/state', ({ tokens }) => [tokens.hasTokens(), tokens.idToken ?? null])
      app.handle('/logout', ({ tokens }) => tokens.revoke())
    },
  }
}

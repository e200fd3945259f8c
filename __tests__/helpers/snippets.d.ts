/** What the snippets of README.md and docs/ use without a declaration: the parts of an app that are not the matter of a page. */
import type { ClientAuthentication, GrantStore, SessionTokensMiddleware } from 'session-token-manager'

declare global {
  const app: import('express').Express
  const req: import('express').Request
  const res: import('express').Response
  const ctx: import('koa').Context
  const server: import('node:http').Server
  const session: typeof import('express-session')
  const issuer: string
  const clientId: string
  const secret: string
  const clientAuthentication: ClientAuthentication
  /** What every app has. */
  const options: Options
  const billingOptions: Options
  /** What `sessionTokens(options)` has returned. */
  const tokens: SessionTokensMiddleware
  const grants: GrantStore & { close(): Promise<void> }
  const redis: import('redis').RedisClientType
  const logger: Pick<Console, 'info'>
  const mySessions: {
    load(req: object): Promise<{ id: string; tokens: string | undefined }>
    put(id: string, field: string, text: string): Promise<void>
    remove(id: string, field: string): Promise<void>
  }
  const issuerOf: (tenant: string) => Promise<string>
  /** A koa-session store. */
  const store: import('koa-session').Store

  // The app's login.
  const strategyOptions: import('passport-oauth2').StrategyOptions
  const url: string
  const provider: import('openid-client').Configuration
  const handleCallback: (req: import('express').Request) => Promise<object>
  const code: string
  const redirect_uri: string
  const code_verifier: string
  const nonce: string
  const iss: unknown
  const login: { verifier: string; nonce: string }
  const authorizationUrl: string
  const authorizationUrlWith: (parameters: object) => string
  /** Of express-openid-connect. */
  const auth: (options: {
    authorizationParams?: object
    afterCallback(req: import('express').Request, res: object, session: object): Promise<object>
  }) => import('express').RequestHandler
  const refusedToken: string
  const vault: { read(name: string): Promise<string>; readAll(name: string): Promise<string[]> }

  // Of an app before the move.
  const addToken: (config: object, token: unknown) => never
  const refreshAndTryAgain: (error: unknown) => Promise<never>

  interface Options {
    issuer: string
    clientId: string
    clientAuthentication: ClientAuthentication
    encryptionKeys: (string | undefined)[]
  }

  /** Of koa-mount. */
  function mount(prefix: string, middleware: object): import('koa').Middleware

  namespace Express {
    interface User {
      oauth?: { accessToken: string; refreshToken: string }
    }
    interface AuthInfo {
      tokens?: object
    }
  }
}

declare module 'express-session' {
  interface SessionData {
    accessToken: string
    returnTo: string
    pending: { checks: import('openid-client').AuthorizationCodeGrantChecks; returnTo: string }
  }
}

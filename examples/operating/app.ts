/** An app that logs its events, as docs/operating.md shows it. */
import express, { type Express } from 'express'
import session from 'express-session'
import { type SessionTokensOptions, sessionTokens } from 'session-token-manager'
import { type LoginOptions, login } from 'session-token-manager/login'
import { logTo, nameUser, withRequest } from './log.js'

export function createApp(
  options: SessionTokensOptions & LoginOptions,
  { baseUrl, secret }: { readonly baseUrl: string; readonly secret: string },
): Express {
  const app = express()
  app.use(session({ secret, resave: false, saveUninitialized: false }))
  app.use(withRequest)
  app.use(sessionTokens({ ...options, onEvent: logTo(console.log) }))
  app.use(login({ ...options, baseUrl, onLogin: (_tokens, claims) => nameUser(claims.sub) }))
  return app
}

// Next behind a server of Express. `options` are those of sessionTokens(); `login` takes the place of a login in the test.
import express from 'express'
import session from 'express-session'
import next from 'next'
import { requireTokens, sessionTokens, tokenErrors } from 'session-token-manager'

export async function createApp({ options, login, secret, dev = false }) {
  const pages = next({ dev, dir: import.meta.dirname })
  await pages.prepare()
  const app = express()
  app.use(session({ secret, resave: false, saveUninitialized: false }))
  app.use(sessionTokens({ ...options, ambient: true })) // for sessionFetch() in server components
  app.use(login)
  app.use(['/orders', '/invoices'], requireTokens({ loginPath: '/login' }))
  app.use(tokenErrors())
  const handle = pages.getRequestHandler()
  app.use((req, res) => handle(req, res))
  return { app, close: () => pages.close() }
}

import express from 'express'
import { auth } from 'express-openid-connect'
import { CLIENT_ID, CLIENT_SECRET } from '../authorization-server.ts'
import { RESPONSE } from '../contenders/work.ts'

/** As its documentation shows it: the session is an encrypted cookie, and the handler refreshes an expired token. */
export function build({ issuer }) {
  const app = express()
  app.use(
    auth({
      issuerBaseURL: issuer,
      baseURL: 'http://127.0.0.1',
      clientID: CLIENT_ID,
      clientSecret: CLIENT_SECRET,
      secret: 'a secret of thirty-two characters',
      authRequired: false,
      authorizationParams: { response_type: 'code', response_mode: 'query', scope: 'openid offline_access' },
    }),
  )
  app.get('/', async (request, response) => {
    if (request.oidc.accessToken.isExpired()) await request.oidc.accessToken.refresh()
    response.json(RESPONSE)
  })
  app.use((_error, _request, response, _next) => {
    response.status(502).end()
  })
  return app
}

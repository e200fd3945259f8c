import { RedisStore } from 'connect-redis'
import express, { type Express, type RequestHandler } from 'express'
import session from 'express-session'
import {
  allowInsecureRequests,
  ClientSecretBasic,
  discovery,
  genericGrantRequest,
  refreshTokenGrant,
  type TokenEndpointResponse,
} from 'openid-client'
import { Pool } from 'pg'
import { createClient } from 'redis'
import { clientSecretBasic, sessionTokens } from 'session-token-manager'
import { type GrantStore, postgresGrantStore } from 'session-token-manager/postgres'
import { redisGrantStore } from 'session-token-manager/redis'
import { CLIENT_ID, CLIENT_SECRET } from '../authorization-server.js'
import type { BuildSite, SiteOptions } from './contenders.js'
import { LOGIN, RESPONSE, SEALING_KEY } from './work.js'

declare module 'express-session' {
  interface SessionData {
    byHand?: { accessToken: string; refreshToken: string; expiresAt: number }
    data?: string
  }
}

const respond: RequestHandler = (_request, response) => {
  response.json(RESPONSE)
}

export const bare: BuildSite = async (options) => {
  const { app } = await appWithSessions(options)
  return app.get('/login', logInWithout).get('/', respond)
}

export const limit: BuildSite = async (options) => {
  const { app } = await appWithSessions(options)
  app.use((_request, _response, next) => next())
  return app.get('/login', logInWithout).get('/', async (_request, response) => {
    await Promise.resolve()
    response.json(RESPONSE)
  })
}

export const sharedCall: BuildSite = async (options) => {
  const { app } = await appWithSessions(options)
  let call: Promise<unknown> | undefined
  const slowCall = async () => {
    const response = await fetch(`${options.issuer}/slow`)
    await response.json()
    call = undefined
  }
  return app.get('/login', logInWithout).get('/', async (_request, response) => {
    call ??= slowCall()
    await call
    response.json(RESPONSE)
  })
}

export const mounted: BuildSite = async (options) => {
  const app = await appWithTokens(options, false)
  return app.get('/', respond)
}

export const token: BuildSite = async (options) => withToken(await appWithTokens(options, false))

export const sealed: BuildSite = async (options) => withToken(await appWithTokens(options, [SEALING_KEY]))

export const postgres: BuildSite = async (options) => {
  const pool = new Pool({ connectionString: options.postgresUrl, max: 5 })
  const grants = postgresGrantStore(pool)
  await grants.migrate()
  return withToken(await appWithTokens(options, [SEALING_KEY], grants))
}

/** What is often written. */
export const byHand: BuildSite = async (options) => {
  const { app } = await appWithSessions(options)
  const config = await discovery(
    new URL(options.issuer),
    CLIENT_ID,
    CLIENT_SECRET,
    ClientSecretBasic(CLIENT_SECRET),
    { execute: [allowInsecureRequests] },
  )
  app.get('/login', async (request, response) => {
    request.session.byHand = kept(await genericGrantRequest(config, 'password', LOGIN))
    response.end()
  })
  app.get('/', async (request, response) => {
    const tokens = request.session.byHand!
    if (tokens.expiresAt <= Date.now())
      request.session.byHand = kept(await refreshTokenGrant(config, tokens.refreshToken))
    response.json(RESPONSE)
  })
  return withErrors(app)
}

function kept({ access_token, refresh_token, expires_in }: TokenEndpointResponse) {
  const expiresAt = Date.now() + Number(expires_in) * 1000
  return { accessToken: access_token, refreshToken: String(refresh_token), expiresAt }
}

function withToken(app: Express): Express {
  app.get('/', async (request, response) => {
    await request.tokens.getAccessToken()
    response.json(RESPONSE)
  })
  return withErrors(app)
}

async function appWithTokens(
  options: SiteOptions,
  encryptionKeys: string[] | false,
  given?: GrantStore,
): Promise<Express> {
  const { app, redis } = await appWithSessions(options)
  const grants = given ?? (redis && redisGrantStore(redis))
  app.use(
    sessionTokens({
      issuer: options.issuer,
      clientId: CLIENT_ID,
      clientAuthentication: clientSecretBasic(CLIENT_SECRET),
      encryptionKeys,
      ...(grants && { grants }),
    }),
  )
  app.get('/login', async (request, response) => {
    await request.tokens.acquire({ grant_type: 'password', ...LOGIN })
    response.end()
  })
  return app
}

/** The sessions are as large as those that hold tokens. */
const logInWithout: RequestHandler = (request, response) => {
  request.session.data = 'a'.repeat(1200)
  response.end()
}

async function appWithSessions({ redisUrl }: SiteOptions) {
  const app = express()
  const redis = redisUrl === undefined ? undefined : createClient({ url: redisUrl })
  await redis?.connect()
  const store = redis && new RedisStore({ client: redis })
  app.use(
    session({
      secret: 'bench',
      resave: false,
      saveUninitialized: false,
      ...(store !== undefined && { store }),
    }),
  )
  return { app, redis }
}

/** An error gets a response without a trace. */
function withErrors(app: Express): Express {
  return app.use(((_error, _request, response, _next) => {
    response.status(502).end()
  }) satisfies express.ErrorRequestHandler)
}

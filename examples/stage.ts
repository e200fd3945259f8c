// The common part of the recipes in this folder: the authorization server and the API. From the environment:
//
//   ISSUER, CLIENT_ID, CLIENT_SECRET   the client's redirect URI is http://localhost:3000/callback
//   API                                the base URL of an API with GET /orders
//   SCOPE                              default: openid offline_access
//   PORT                               default: 3000
//   SESSION_SECRET, SESSION_KEY        each made with openssl rand -base64 32; default: new ones at each start
//
// Without ISSUER the demo's authorization server and API are started. The responses of the token endpoint are printed. Access
// tokens live for 10 seconds, or ACCESS_TOKEN_SECONDS.
import { randomBytes } from 'node:crypto'
import type { RequestListener } from 'node:http'
import { listen } from './demo/server.js'
import { type StageOptions, setStage } from './demo/stage.js'

export interface Stage {
  readonly issuer: string
  readonly clientId: string
  readonly clientSecret: string
  readonly scope: string
  readonly api: string
  /** Where browsers reach the app. */
  readonly url: string
  readonly sessionSecret: string
  readonly sessionKey: string
  /** Serves the app at `url`; your own app would call `app.listen(3000)`. */
  serve(app: RequestListener): void
}

/** Starts to listen, so that the URL is known, and finds or starts the servers that the app needs. */
export async function stage(options: Pick<StageOptions, 'clientAuthentication'> = {}): Promise<Stage> {
  const { ISSUER, PORT = '3000', SESSION_SECRET, SESSION_KEY } = process.env
  const named = ISSUER === undefined ? undefined : namedServers(ISSUER)
  const server = await listen(Number(PORT))
  const url = server.url.replace('127.0.0.1', 'localhost')
  if (named && !url.endsWith(`:${PORT}`)) exit(`Port ${PORT} is taken. Set PORT to another one.`)

  return {
    ...(named ?? (await demoServers(url, options))),
    url,
    sessionSecret: SESSION_SECRET ?? random(),
    sessionKey: SESSION_KEY ?? random(),
    serve(app) {
      server.use(app)
      console.log(`Open ${url} (Ctrl-C stops it).`)
    },
  }
}

/** The endpoints of the authorization server, for login libraries without OpenID Connect Discovery. */
export async function endpointsOf(issuer: string) {
  const answer = await fetch(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`)
  if (!answer.ok) exit(`There is no metadata at ISSUER: ${answer.url} answered ${answer.status}.`)
  const metadata = await answer.json()
  return {
    authorizationEndpoint: String(metadata.authorization_endpoint),
    tokenEndpoint: String(metadata.token_endpoint),
  }
}

function namedServers(issuer: string) {
  const { CLIENT_ID, CLIENT_SECRET, API, SCOPE = 'openid offline_access' } = process.env
  if (!CLIENT_ID || !CLIENT_SECRET || !API)
    return exit('Besides ISSUER, set CLIENT_ID, CLIENT_SECRET and API.')
  return { issuer, clientId: CLIENT_ID, clientSecret: CLIENT_SECRET, scope: SCOPE, api: API }
}

async function demoServers(siteUrl: string, options: Pick<StageOptions, 'clientAuthentication'>) {
  const { ACCESS_TOKEN_SECONDS = '10' } = process.env
  const { bff, timeline } = await setStage({
    siteUrl,
    accessTokenSeconds: Number(ACCESS_TOKEN_SECONDS),
    ...options,
  })
  console.log(
    "ISSUER is not set: this is the demo's authorization server. Log in as its demo user, with one click.",
  )
  timeline.follow((row) => {
    if (row.kind === 'token') console.log(`authorization server: ${row.request} → ${row.status}`)
  })
  const { issuer, clientId, clientSecret, api } = bff
  return { issuer, clientId, clientSecret, scope: 'openid offline_access orders.read', api }
}

function exit(reason: string): never {
  console.error(reason)
  process.exit(1)
}

function random(): string {
  return randomBytes(32).toString('base64')
}

/** The start page, with a button for each function of the recipes. */
export const START_PAGE = `<!doctype html>
<title>session-token-manager</title>
<a href="/orders">Orders</a>
<form method="post" action="/logout"><button>Log out</button></form>`

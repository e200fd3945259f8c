import type { RequestListener } from 'node:http'
import { type BenchServer, startServer } from '../harness/servers.js'

/** What a contender is built with. */
export interface SiteOptions {
  readonly contender: ContenderName
  readonly issuer: string
  /** Where sessions are kept; in the memory of the process if left out. */
  readonly redisUrl?: string
  /** Where `postgres` keeps grants. */
  readonly postgresUrl?: string
}

/** Builds an app with `/login`, and `/`, which responds when it has a token. */
export type BuildSite = (options: SiteOptions) => RequestListener | Promise<RequestListener>

/**
 * The apps that are compared. Those in Express have express-session, those in Koa koa-session with a store.
 *
 * - `bare`: sessions, and a handler.
 * - `limit`: a middleware that does nothing as well, and a handler that awaits. Any middleware costs this.
 * - `shared call`: a handler that awaits a call of 50 ms which all requests of the process share.
 * - `mounted`, `token`, `sealed`: this library; not asked, asked for a token, and with tokens that are sealed.
 * - `postgres`: as `sealed`, with the grants in PostgreSQL.
 * - `by hand`: openid-client, with the tokens in the session, and a refresh when they have expired.
 */
const BUILDERS = {
  bare: () => express('bare'),
  limit: () => express('limit'),
  'shared call': () => express('sharedCall'),
  mounted: () => express('mounted'),
  token: () => express('token'),
  sealed: () => express('sealed'),
  postgres: () => express('postgres'),
  'by hand': () => express('byHand'),
  'koa limit': async () => (await import('./koa.js')).limit,
  'koa mounted': async () => (await import('./koa.js')).mounted,
  'koa token': async () => (await import('./koa.js')).token,
  'express-openid-connect': () => peer('express-openid-connect'),
  'better-auth': () => peer('better-auth'),
} satisfies Record<string, () => Promise<BuildSite>>

export type ContenderName = keyof typeof BUILDERS

/** Starts a contender in a process of its own. */
export function startContender(options: SiteOptions): Promise<BenchServer> {
  return startServer(new URL('./serve.ts', import.meta.url).href, [JSON.stringify(options)])
}

export async function listenerOf(options: SiteOptions): Promise<RequestListener> {
  const build = await BUILDERS[options.contender]()
  return build(options)
}

async function express(name: keyof typeof import('./express.js')): Promise<BuildSite> {
  return (await import('./express.js'))[name]
}

/** These are JavaScript, since their types are there only if they are installed. */
async function peer(name: string): Promise<BuildSite> {
  return (await import(`../peers/${name}.js`)).build
}

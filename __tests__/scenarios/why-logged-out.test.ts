import { AsyncLocalStorage } from 'node:async_hooks'
import { describe, expect, it } from '@jest/globals'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'
import type { SessionTokensOptions, TokenEvent } from '../../lib/index.js'
import type { Browser } from '../helpers/browser.js'
import { destroyed } from '../helpers/session-deeds.js'
import { type Site, sharedSessions } from '../helpers/site.js'
import { sessionIdOf } from '../helpers/stores.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start } = await testSites()

type Tokens = Partial<SessionTokensOptions>

/** A line of the app's log: an event as JSON, and the session of the request in which it happened. */
type Line = Record<string, unknown> & { readonly error?: Record<string, unknown> }

/** What the operator knows of a user: the app's log names them at the login. */
interface User {
  readonly session: string
  readonly grantId: string
}

/** Reads the log as docs/operating.md says. */
function whyLoggedOut(log: readonly Line[], { grantId, session }: User): string {
  const ofUser = log.filter((line) => line.grantId === grantId || line.session === session)
  const last = (type: string) => ofUser.findLast((line) => line.type === type)
  const ended = ofUser.findLast((line) => line.type === 'ended' && line.grantId === grantId)
  const error = (last('refresh_failed') ?? last('need_refused'))?.error
  if (ended?.reason === 'invalid_grant') {
    return `the authorization server ended the grant: ${error?.errorDescription ?? error?.error ?? error?.code}`
  }
  if (ended?.reason === 'logged_out') {
    const next = ofUser.find(({ type, grantId: other }) => type === 'logged_in' && other !== grantId)
    if (next) return 'another user logged in in this session'
    return ended.scope === 'session' ? 'logout of this session alone' : 'logout'
  }
  if (ended) return String(ended.reason)
  const ignored = last('session_ignored')
  if (ignored) return `a process could not use the session: ${ignored.reason}`
  if (last('grant_evicted')) return 'the grant store in memory was full'
  if (error?.code === 'ERR_REAUTHENTICATION_REQUIRED') return 'the authorization server asks for a login'
  return 'the session is gone from the session store'
}

const key = 'UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c='
const otherKey = '9pQ2mHc1jvW0Hk8n3sZr5tYb7uXo4aLd6eGfKiJl2wM='

const log: Line[] = []
const requests = new AsyncLocalStorage<string>()

/** The processes of a site, over one session store, with the log of all sites. */
function site() {
  const open = sharedSessions()
  return async (tokens: Tokens = {}): Promise<Site> => {
    const onEvent = (event: TokenEvent) =>
      void log.push({ ...JSON.parse(JSON.stringify(event)), session: requests.getStore() })
    const process = await start({
      store: open(),
      tokens: { onEvent, ...tokens },
      before: (request, _, next) => requests.run(request.sessionID, () => next()),
    })
    process.handle('/id', ({ tokens }) => tokens.grantId)
    process.handle('/has', ({ tokens }) => tokens.hasTokens())
    process.handle('/clear', ({ tokens }) => tokens.clear())
    process.handle('/destroy', destroyed)
    process.handle('/delete', ({ session }) => {
      delete session.tokens
    })
    return process
  }
}

interface Deed {
  readonly tokens?: Tokens
  readonly login?: object
  /** What happens to the user. */
  readonly happens: (scene: Scene) => Promise<unknown>
}

interface Scene {
  readonly here: Site
  readonly tab: Browser
  readonly another: (tokens?: Tokens) => Promise<Site>
}

/** The stored sessions, and the id of the user's. */
function storedIn({ here, tab }: Scene) {
  const { sessions } = here.store.store as unknown as { sessions: Record<string, string> }
  return { sessions, sid: sessionIdOf(tab.cookie('connect.sid')) }
}

const visits =
  (...paths: string[]) =>
  async ({ tab }: Scene) => {
    for (const path of paths) await tab.get(path)
  }
const expiresAndVisits = (path: string) => async (scene: Scene) => {
  scene.here.clock.advance(HOUR_MS)
  await visits(path)(scene)
}
const refused = (status: number, body: object) => (scene: Scene) => {
  server.failNext({ status, body })
  return expiresAndVisits('/token')(scene)
}
const visitsAnother =
  (tokens: Tokens) =>
  async ({ another, tab }: Scene) => {
    await (await another(tokens)).browser(tab).get('/has')
  }
const loginAgain =
  (account: string) =>
  async ({ here, tab }: Scene) =>
    here.login(tab, account)

const ofServer = 'the authorization server ended the grant'
const unusable = 'a process could not use the session'
const withoutRefreshToken = { access_token: 'of-a-user', expires_in: 3_600 }

const twenty: [string, string, Deed][] = [
  ['logs out', 'logout', { happens: visits('/logout') }],
  ['logs out here alone', 'logout', { happens: visits('/clear') }],
  ['has their session destroyed', 'logout', { happens: visits('/destroy') }],
  ['has their tokens deleted by the app', 'logout', { happens: visits('/delete') }],
  ['logs in again', 'replaced', { happens: loginAgain('alice') }],
  ['lets another user log in', 'another user logged in in this session', { happens: loginAgain('bob') }],
  [
    'changes the password',
    `${ofServer}: The password was changed.`,
    { happens: refused(400, { error: 'invalid_grant', error_description: 'The password was changed.' }) },
  ],
  ['is locked out', `${ofServer}: invalid_grant`, { happens: refused(400, { error: 'invalid_grant' }) }],
  [
    'meets a server with words of its own',
    `${ofServer}: ERR_REAUTHENTICATION_REQUIRED`,
    {
      tokens: { isGrantEnded: ({ status }) => status === 409 },
      happens: refused(409, { reason: 'session_closed' }),
    },
  ],
  ['has no refresh token', 'expired', { login: withoutRefreshToken, happens: expiresAndVisits('/token') }],
  [
    'has none, and is asked for',
    'expired',
    { login: withoutRefreshToken, happens: expiresAndVisits('/has') },
  ],
  [
    'meets a process with another key',
    `${unusable}: unknown_key`,
    { tokens: { encryptionKeys: [key] }, happens: visitsAnother({ encryptionKeys: [otherKey] }) },
  ],
  [
    'meets a process without a key',
    `${unusable}: sealed`,
    { tokens: { encryptionKeys: [key] }, happens: visitsAnother({}) },
  ],
  [
    'meets the first process with a key',
    `${unusable}: not_sealed`,
    { happens: visitsAnother({ encryptionKeys: [key] }) },
  ],
  [
    'meets a process of another client',
    `${unusable}: other_client`,
    { happens: visitsAnother({ clientId: 'other' }) },
  ],
  [
    'meets a process without the grant store',
    `${unusable}: other_keep`,
    { tokens: { keep: 'store', grants: memoryGrantStore() } as Tokens, happens: visitsAnother({}) },
  ],
  [
    'has their tokens overwritten by the app',
    `${unusable}: malformed`,
    {
      happens: async (scene) => {
        const { sessions, sid } = storedIn(scene)
        sessions[sid] = JSON.stringify({ ...JSON.parse(sessions[sid]!), tokens: 'dark' })
        await visits('/token')(scene)
      },
    },
  ],
  [
    'is forgotten by a small grant store',
    'the grant store in memory was full',
    {
      tokens: { keep: 'store', grants: memoryGrantStore({ maxGrants: 1 }) } as Tokens,
      happens: async ({ here, tab }) => {
        await here.login(here.browser(), 'bob')
        await tab.get('/token')
      },
    },
  ],
  [
    'is asked to log in by the server',
    'the authorization server asks for a login',
    { happens: refused(400, { error: 'interaction_required' }) },
  ],
  [
    'has their session lost',
    'the session is gone from the session store',
    {
      happens: async (scene) => {
        const { sessions, sid } = storedIn(scene)
        delete sessions[sid]
        await visits('/token')(scene)
      },
    },
  ],
]

describe('S96 the events say why a user was logged out', () => {
  it('S96 for each of twenty users, from one log', async () => {
    log.length = 0
    const users: User[] = []
    for (const [, , { happens, login, tokens }] of twenty) {
      const another = site()
      const here = await another(tokens)
      const tab = here.browser()
      if (login) await tab.post('/login', login)
      else await here.login(tab, 'alice')
      users.push({
        session: sessionIdOf(tab.cookie('connect.sid')),
        grantId: (await tab.get('/id')).json,
      })
      await happens({ here, tab, another })
    }
    expect(users).toHaveLength(20)
    const reasons = users.map((user, n) => [twenty[n]![0], whyLoggedOut(log, user)])
    expect(reasons).toEqual(twenty.map(([who, why]) => [who, why]))
  })
})

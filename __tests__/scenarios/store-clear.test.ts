import { randomBytes } from 'node:crypto'
import { afterAll, afterEach, describe, expect, it } from '@jest/globals'
import { RedisStore } from 'connect-redis'
import session, { type Store } from 'express-session'
import { createClient } from 'redis'
import type { TokenEvent } from '../../lib/index.js'
import { startAuthorizationServer } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import type { TestClock } from '../helpers/clock.js'
import type { Gate } from '../helpers/gate.js'
import { startKoaSite } from '../helpers/koa-site.js'
import { koaMemoryStore } from '../helpers/koa-stores.js'
import { describeWithRedis, redisUrl } from '../helpers/redis.js'
import { startSite } from '../helpers/site.js'
import { fileStore } from '../helpers/stores.js'

const HOUR_MS = 3_600_000

const server = await startAuthorizationServer()
const running: { close(): unknown }[] = []
afterEach(async () => {
  for (const it of running.splice(0)) await it.close()
  expect(server.reuses()).toBe(0)
})
afterAll(() => server.close())

interface Site {
  readonly clock: TestClock
  readonly events: readonly TokenEvent[]
  browser(): Browser
  login(tab: Browser): Promise<void>
  /** Requests of `/slow` change the session, when the gate lets them. */
  slow(): Gate
  /** From now on what is read waits at the gate before it is handed over. */
  holdReads(): Gate
  clear(): Promise<unknown>
}

async function expressSite(store: Store): Promise<Site> {
  const site = await startSite(server, { store })
  running.push(site)
  return {
    ...site,
    login: (tab) => site.login(tab),
    slow: () => site.slow('/slow', (request) => Object.assign(request.session, { views: 1 }) && null),
    holdReads: () => site.store.holdAnswer('get'),
    clear: () => new Promise((resolve) => site.store.store.clear!(resolve)),
  }
}

async function koaSite(): Promise<Site> {
  const sessions = new Map<string, unknown>()
  const store = Object.assign(koaMemoryStore(sessions), { clear: async () => sessions.clear() })
  const site = await startKoaSite(server, { store })
  running.push(site)
  return {
    ...site,
    login: (tab) => site.login(tab),
    slow: () => site.slow('/slow', (ctx) => Object.assign(ctx.session!, { views: 1 }) && null),
    holdReads: () => store.holdAnswer('get'),
    clear: () => store.clear(),
  }
}

function clearing(name: string, start: () => Promise<Site>) {
  describe(`clear() of ${name}`, () => {
    it('S36 ends every session: no token comes back by a refresh that is being stored', async () => {
      const site = await start()
      const tab = site.browser()
      await site.login(tab)
      site.clock.advance(HOUR_MS)
      const answer = server.hold()
      const refreshing = tab.get('/token')
      await answer.reached
      // What is read from here on is to be written back with the new tokens.
      const read = site.holdReads()
      answer.release()
      await read.reached
      const cleared = site.clear()
      read.release()
      await Promise.all([refreshing, cleared])
      expect((await tab.get('/token')).status).toBe(401)
    })

    it('S36 ends every session: a slow request that saves its session brings no token back', async () => {
      const site = await start()
      const tab = site.browser()
      await site.login(tab)
      const gate = site.slow()
      const saving = tab.get('/slow')
      await gate.reached
      await site.clear()
      gate.release()
      await saving
      expect((await tab.get('/token')).status).toBe(401)
    })

    it('does not affect later logins', async () => {
      const site = await start()
      const tab = site.browser()
      await site.login(tab)
      await site.clear()
      await site.login(tab)
      expect((await tab.get('/token')).status).toBe(200)
    })

    it('S35 has the tokens revoked that arrive after it', async () => {
      const site = await start()
      const tab = site.browser()
      await site.login(tab)
      site.clock.advance(HOUR_MS)
      const held = server.hold()
      const refreshing = tab.get('/token')
      await held.reached
      await site.clear()
      held.release()
      await refreshing
      expect(site.events.map(({ type }) => type)).toContain('late_tokens_revoked')
    })
  })
}

clearing('a MemoryStore', () => expressSite(new session.MemoryStore()))
clearing('session-file-store', async () => {
  const files = await fileStore()
  running.push(files)
  return expressSite(files.reopen())
})
clearing('a store of koa-session', koaSite)

describeWithRedis('with Redis', () => {
  clearing('connect-redis', async () => {
    const client = createClient({ url: await redisUrl() })
    await client.connect()
    running.push({ close: () => client.close() })
    return expressSite(new RedisStore({ client, prefix: `${randomBytes(6).toString('hex')}:` }))
  })
})

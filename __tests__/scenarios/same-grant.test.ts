import { describe, expect, it } from '@jest/globals'
import { type GrantStore, memoryGrantStore, type SessionTokensOptions } from '../../lib/index.js'
import type { Browser } from '../helpers/browser.js'
import { type Site, sharedSessions } from '../helpers/site.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start, held } = await testSites()

const key = 'UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c='
const ok = { status: 200 }
const loggedOut = { status: 401, json: { code: 'ERR_NO_TOKENS' } }
const modes: [string, Partial<SessionTokensOptions>][] = [
  ["keep: 'session'", {}],
  ["keep: 'session', sealed", { encryptionKeys: [key] }],
  ["keep: 'store'", { keep: 'store' }],
]

describe.each(modes)('S19 one refresh token in two sessions, %s', (_, mode) => {
  describe.each([1, 2])('in %i processes', (count) => {
    async function scene() {
      const open = sharedSessions()
      const grants: GrantStore = memoryGrantStore()
      const options = { tokens: { grants, ...mode } as Partial<SessionTokensOptions> }
      const sites: Site[] = []
      for (let n = 0; n < count; n++) sites.push(await start({ store: open(), ...options }))
      const [one] = sites as [Site]
      const other = sites.at(-1)!
      for (const site of sites) {
        site.handle('/clear', ({ tokens }) => tokens.clear())
        site.handle('/visit', ({ session }) => {
          session.views = 1
        })
      }
      const login = await server.login('alice')
      const put = async (site: Site, tab: Browser) => {
        expect(await tab.post('/login', login)).toMatchObject(ok)
        return site
      }
      const [a, b] = [one.browser(), other.browser()]
      await put(one, a)
      return {
        a,
        b,
        one,
        other,
        login,
        expire: () => {
          for (const site of sites) site.clock.advance(HOUR_MS)
        },
        put,
        refreshesOf: async (work: () => Promise<unknown>) => {
          const before = server.refreshes()
          await work()
          return server.refreshes() - before
        },
      }
    }

    it('S19 both refresh at once: one refresh, and both live on', async () => {
      const { a, b, expire, other, put, refreshesOf } = await scene()
      await put(other, b)
      for (let round = 0; round < 3; round++) {
        expire()
        const refreshes = await refreshesOf(async () => {
          const responses = await Promise.all([a.get('/token'), b.get('/token')])
          expect(responses).toMatchObject([ok, ok])
          expect(responses[0]!.json.token).toBe(responses[1]!.json.token)
        })
        expect(refreshes).toBe(1)
      }
    })

    it('S19 the second session comes with a refresh token that was used since: it has the newest tokens', async () => {
      const { a, b, expire, other, put, refreshesOf } = await scene()
      expire()
      const { json } = await a.get('/token')
      await put(other, b)
      expect(await refreshesOf(async () => expect((await b.get('/token')).json.token).toBe(json.token))).toBe(
        0,
      )
      expire()
      expect(await refreshesOf(async () => expect(await b.get('/token')).toMatchObject(ok))).toBe(1)
      expect(await a.get('/token')).toMatchObject(ok)
    })

    it('S19 the second session comes during a refresh', async () => {
      const { a, b, expire, other, put, refreshesOf } = await scene()
      expire()
      const gate = held(server.holdAnswer())
      const refreshes = await refreshesOf(async () => {
        const token = a.get('/token')
        await gate.reached
        await put(other, b)
        const second = b.get('/token')
        gate.release()
        expect(await token).toMatchObject(ok)
        expect(await second).toMatchObject(ok)
      })
      expect(refreshes).toBe(1)
      expire()
      expect(await a.get('/token')).toMatchObject(ok)
      expect(await b.get('/token')).toMatchObject(ok)
    })

    it('S19 revoke() in one session ends both', async () => {
      const { a, b, expire, other, put } = await scene()
      await put(other, b)
      expect(await b.post('/logout')).toMatchObject(ok)
      expire()
      expect(await a.get('/token')).toMatchObject(loggedOut)
      expect(await b.get('/token')).toMatchObject(loggedOut)
    })

    it.each(['first', 'second'])(
      'S19 clear() in the %s session ends only its share, for good',
      async (which) => {
        const { a, b, expire, one, other, put } = await scene()
        await put(other, b)
        const [leaving, staying] = which === 'first' ? [a, b] : [b, a]
        const site = which === 'first' ? one : other
        const gate = held(
          site.slow('/slow', ({ session }) => {
            session.views = 2
          }),
        )
        const slow = leaving.get('/slow')
        await gate.reached
        expect(await leaving.post('/clear')).toMatchObject(ok)
        gate.release()
        await slow
        expect(await leaving.get('/token')).toMatchObject(loggedOut)
        expire()
        expect(await leaving.get('/token')).toMatchObject(loggedOut)
        expect(await one.visitorOf(leaving).get('/token')).toMatchObject(loggedOut)
        expect(await staying.get('/token')).toMatchObject(ok)
        expire()
        expect(await staying.get('/token')).toMatchObject(ok)
      },
    )

    it('S19 the grant ends with its last session, and the same refresh token begins another one', async () => {
      const { a, b, one, other, put } = await scene()
      await put(other, b)
      await a.post('/clear')
      expect(await b.get('/token')).toMatchObject(ok)
      await b.post('/clear')
      expect(await b.get('/token')).toMatchObject(loggedOut)
      await put(one, a)
      await put(other, b)
      expect(await a.get('/token')).toMatchObject(ok)
      expect(await b.get('/token')).toMatchObject(ok)
      await b.post('/clear')
      expect(await a.get('/token')).toMatchObject(ok)
    })

    it('S19 a session that gets the same tokens again stays in its grant', async () => {
      const { a, expire, one, put, refreshesOf } = await scene()
      expire()
      expect(await a.get('/token')).toMatchObject(ok)
      for (let n = 0; n < 3; n++) await put(one, a)
      expect(await refreshesOf(() => a.get('/token'))).toBe(0)
      await a.post('/clear')
      expect(await a.get('/token')).toMatchObject(loggedOut)
    })
  })
})

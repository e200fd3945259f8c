import { describe, expect, it } from '@jest/globals'
import type { Request } from 'express'
import { type GrantStore, memoryGrantStore, type SessionTokensOptions } from '../../lib/index.js'
import { sessionIdOf } from '../helpers/stores.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start, held } = await testSites()

const key = 'UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c='
const audience = `${server.clients.client_secret_basic.clientId} ${server.tokenEndpoint}`

const tokensOf = (token: string, obtainedAt: number) => ({
  revision: 1_000_000,
  refreshToken: `RT-${token}`,
  accessTokens: [{ token, tokenType: 'Bearer', obtainedAt, expiresAt: obtainedAt + HOUR_MS }],
})

/** What an attacker makes of the id of a grant. */
const forgeries: [string, (grantId: string, now: number) => object][] = [
  ['of before proofs, without tokens', (grantId) => ({ version: 1, grantId, revision: 1, accessTokens: [] })],
  ['of before proofs, with tokens', (grantId, now) => ({ version: 1, grantId, ...tokensOf('mine', now) })],
  ['without a proof', (grantId, now) => ({ version: 2, grantId, ...tokensOf('mine', now) })],
  [
    'with another proof',
    (grantId, now) => ({ version: 2, grantId, proof: 'mine', ...tokensOf('mine', now) }),
  ],
  [
    'with the id for a proof',
    (id, now) => ({ version: 2, grantId: id, proof: id, ...tokensOf('mine', now) }),
  ],
  ['that is a reference of before', (grantId) => ({ version: 1, grantId, key: 'mine' })],
  ['that is a reference', (grantId) => ({ version: 2, grantId, key: 'mine' })],
  ['that is a reference with the id for a key', (grantId) => ({ version: 2, grantId, key: grantId })],
]

const modes: [string, Partial<SessionTokensOptions>][] = [
  ["keep: 'session'", {}],
  ["keep: 'session', sealed", { encryptionKeys: [key] }],
  ["keep: 'store'", { keep: 'store' }],
  ["keep: 'store', sealed", { keep: 'store', encryptionKeys: [key] }],
  ["keep: 'session', acceptUnsealed", { encryptionKeys: [key], acceptUnsealed: true }],
  ["keep: 'store', acceptUnsealed", { keep: 'store', encryptionKeys: [key], acceptUnsealed: true }],
]

/** A session that the browser holds in the clear: the text is in a header. */
const ofBrowser = (texts: Map<string, string>) => ({
  session: ({ headers }: Request) => {
    const name = String(headers['x-session'] ?? 'nobody')
    return {
      read: () => texts.get(name),
      write: (text: string) => void texts.set(name, text),
      clear: () => void texts.delete(name),
    }
  },
})

describe.each(modes)('S65 the id of a grant without its proof, %s', (_, options) => {
  const places = ['in a store', 'in the browser'] as const
  describe.each(options.acceptUnsealed ? places.slice(0, 1) : places)('in sessions %s', (where) => {
    async function scene() {
      const grants = memoryGrantStore()
      const calls: string[] = []
      const told = <M extends keyof GrantStore>(method: M) =>
        ((grantId: string, ...rest: unknown[]) => {
          calls.push(`${method} ${grantId}`)
          return (grants[method] as (...args: unknown[]) => unknown)(grantId, ...rest)
        }) as GrantStore[M]
      const methods = ['lease', 'renew', 'commit', 'release', 'read', 'end'] as const
      const recording = Object.fromEntries(methods.map((method) => [method, told(method)]))
      const texts = new Map<string, string>()
      const own = where === 'in the browser' ? ofBrowser(texts) : {}
      const tokens = { grants: recording as unknown as GrantStore, ...options, ...own }
      const site = await start({ tokens: tokens as Partial<SessionTokensOptions> })
      const { store } = site.store
      const as = (name: string) => ({ headers: { 'x-session': name } })
      const victim = site.browser()
      const attacker = site.browser()
      site.handle('/visit', ({ session }) => {
        session.views = 1
      })
      site.handle('/clear', ({ tokens }) => tokens.clear())
      site.handle('/destroy', ({ session }) => new Promise((done) => session.destroy(() => done(null))))
      await attacker.get('/visit', as('attacker'))
      await victim.post('/login', await server.login('alice'), as('victim'))
      const [, grantId = ''] = calls[0]!.split(' ')
      const forge = (forged: object) => {
        const text = JSON.stringify({ audience, ...forged })
        if (where === 'in the browser') return void texts.set('attacker', text)
        const { sessions } = store as unknown as { sessions: Record<string, string> }
        const sid = sessionIdOf(attacker.cookie('connect.sid'))
        sessions[sid] = JSON.stringify({ ...JSON.parse(sessions[sid]!), tokens: text })
      }
      return {
        site,
        grantId,
        forge,
        // A slow process reads its own grant again after it was stored.
        changesOf: () => calls.filter((call) => call.endsWith(grantId) && !call.startsWith('read')),
        victim: (path: string) => victim.get(path, as('victim')),
        attacker: (path: string) => attacker.get(path, as('attacker')),
      }
    }

    it.each(forgeries)(
      'S65 serves nothing, ends nothing and overwrites nothing: a copy %s',
      async (_, forgery) => {
        const { changesOf, attacker, forge, grantId, site, victim } = await scene()
        const before = changesOf().length
        for (const path of ['/token', '/visit', '/clear', '/logout', '/destroy']) {
          await attacker('/visit')
          forge(forgery(grantId, site.clock.now()))
          const { json, status } = await attacker(path)
          if (path === '/token') expect([status, json.code]).toEqual([401, 'ERR_NO_TOKENS'])
        }
        expect(changesOf().length).toBe(before)
        expect((await victim('/token')).status).toBe(200)
        site.clock.advance(HOUR_MS)
        expect((await victim('/token')).status).toBe(200)
      },
    )

    it('S65 shares no refresh that is in flight', async () => {
      const { attacker, forge, grantId, site, victim } = await scene()
      site.clock.advance(HOUR_MS)
      const gate = held(server.hold())
      const refreshed = victim('/token')
      await gate.reached
      for (const [, forgery] of forgeries) {
        forge(forgery(grantId, site.clock.now() - HOUR_MS))
        expect(await attacker('/token')).toMatchObject({ status: 401, json: { code: 'ERR_NO_TOKENS' } })
      }
      gate.release()
      expect((await refreshed).status).toBe(200)
    })
  })
})

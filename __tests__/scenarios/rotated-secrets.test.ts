import { randomBytes } from 'node:crypto'
import { inspect } from 'node:util'
import { describe, expect, it } from '@jest/globals'
import { clientSecretBasic } from '../../lib/index.js'
import { startKoaSite } from '../helpers/koa-site.js'
import { LOGIN_KEY, startLoginSite } from '../helpers/login-site.js'
import type { Site } from '../helpers/site.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const MINUTE_MS = 60_000

const { server, start, closing, loggedIn, refresh } = await testSites()
const { clientSecret } = server.clients.client_secret_basic
const newKey = () => randomBytes(32).toString('base64url')

/** A vault that an operator changes, and that may be out of order. */
function vault<T>(content: T) {
  const self = {
    content,
    isDown: false,
    reads: 0,
    read: async () => {
      self.reads += 1
      if (self.isDown) throw new Error(`vault: no ${JSON.stringify(self.content)} for you`)
      return self.content
    },
  }
  return self
}

const failures = ({ events }: Pick<Site, 'events'>) => events.filter(({ type }) => type === 'secret_failed')

describe('S105 a client secret from a vault', () => {
  it('S105 the vault fails later: the last secret is used, and an event tells', async () => {
    const secret = vault(clientSecret)
    const site = await start({ tokens: { clientAuthentication: clientSecretBasic(secret.read) } })
    const tab = await loggedIn(site)
    await refresh(site, tab)
    secret.isDown = true
    await refresh(site, tab)
    expect(failures(site)).toEqual([
      expect.objectContaining({ of: 'client_authentication', hasLast: true, at: expect.any(Number) }),
    ])
    expect(failures(site)[0]).toMatchObject({
      error: { message: expect.stringContaining('Check the function') },
    })
    expect(inspect(site.events, { depth: 20 })).not.toContain(clientSecret)
    expect(JSON.stringify(site.events)).not.toContain(clientSecret)
  })

  it('S105 the vault fails at once: 503, nothing is sent, and the refresh token is still good', async () => {
    const secret = vault(clientSecret)
    secret.isDown = true
    const site = await start({ tokens: { clientAuthentication: clientSecretBasic(secret.read) } })
    const tab = await loggedIn(site)
    site.clock.advance(HOUR_MS)
    const before = server.refreshes()
    expect(await tab.get('/token')).toMatchObject({
      status: 503,
      json: { code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE' },
    })
    expect(server.refreshes()).toBe(before)
    expect(failures(site)).toMatchObject([{ of: 'client_authentication', hasLast: false }])
    expect(inspect(site.errors, { depth: 20 })).not.toContain(clientSecret)
    secret.isDown = false
    await refresh(site, tab)
  })

  it('S105 the secret changes: refreshes have the new one after a minute, and one call serves a minute', async () => {
    const secret = vault('the secret of yesterday')
    const site = await start({ tokens: { clientAuthentication: clientSecretBasic(secret.read) } })
    const tab = await loggedIn(site)
    site.clock.advance(HOUR_MS)
    expect(await tab.get('/token')).toMatchObject({ status: 500, json: { code: 'ERR_CLIENT_REJECTED' } })
    secret.content = clientSecret
    await refresh(site, tab)
    const { reads } = secret
    const { token } = (await tab.get('/token')).json as { token: string }
    expect((await tab.get(`/token?rejected=${token}`)).status).toBe(200)
    expect(secret.reads).toBe(reads)
  })
})

describe('S105 encryptionKeys from a vault', () => {
  it('S105 a new key is added, moved to the front, and the old one is removed: whoever was here stays logged in', async () => {
    const [before, after] = [newKey(), newKey()]
    const keys = vault([before])
    const site = await start({ tokens: { encryptionKeys: keys.read } })
    const [often, seldom] = [await loggedIn(site), await loggedIn(site)]
    for (const content of [
      [before, after],
      [after, before],
    ]) {
      keys.content = content
      site.clock.advance(MINUTE_MS)
      // The request in which the keys are found to be old still has the earlier ones.
      expect((await often.get('/token')).status).toBe(200)
      await refresh(site, often)
    }
    keys.content = [after]
    site.clock.advance(6 * MINUTE_MS)
    expect((await often.get('/token')).status).toBe(200)
    // What this process has in memory is sealed with a key that has been removed, maybe since it was stolen.
    expect((await seldom.get('/token')).status).toBe(401)
    const other = await start({ store: site.store.store, tokens: { encryptionKeys: [after] } })
    expect((await other.visitorOf(often).get('/token')).status).toBe(200)
  })

  it('S105 the vault fails at once: 503 for a request that needs tokens, and nobody is logged out', async () => {
    const key = newKey()
    const first = await start({ tokens: { encryptionKeys: [key] } })
    const tab = await loggedIn(first)
    const keys = vault([key])
    keys.isDown = true
    const site = await start({ store: first.store.store, tokens: { encryptionKeys: keys.read } })
    site.handle('/plain', () => 'plain')
    site.handle('/cart', (request) => Object.assign(request.session, { cart: 1 }) && 'kept')
    const visitor = site.visitorOf(tab)
    expect(await visitor.get('/token')).toMatchObject({ status: 503, json: { code: 'ERR_SESSION_STORE' } })
    expect(await visitor.get('/plain')).toMatchObject({ status: 200, json: 'plain' })
    expect((await visitor.get('/cart')).status).toBe(200)
    expect(failures(site)[0]).toMatchObject({ of: 'encryption_keys', hasLast: false })
    expect(inspect([site.events, site.errors], { depth: 20 })).not.toContain(key)
    keys.isDown = false
    site.clock.advance(MINUTE_MS)
    expect((await visitor.get('/token')).status).toBe(200)
    expect(site.events.filter(({ type }) => type === 'session_ignored')).toEqual([])
    expect(await site.stored(visitor)).toMatchObject({ cart: 1 })
    await refresh(site, visitor)
  })

  it.each<[string, unknown]>([
    ['fails', undefined],
    ['returns a passphrase', ['correct horse battery staple, and so on and so forth']],
    ['returns no list', 'a text'],
  ])('S105 the vault %s later: the last keys are used, and an event tells', async (_, content) => {
    const key = newKey()
    const keys = vault<unknown>([key])
    const site = await start({ tokens: { encryptionKeys: keys.read as never } })
    const tab = await loggedIn(site)
    keys.content = content
    keys.isDown = content === undefined
    await refresh(site, tab)
    await refresh(site, tab)
    expect(failures(site)[0]).toMatchObject({ of: 'encryption_keys', hasLast: true })
    expect(inspect(site.events, { depth: 20 })).not.toMatch(/horse|for you/)
  })

  it('S105 on Koa: 503 for a request that needs tokens, and nobody is logged out', async () => {
    const keys = vault([newKey()])
    const site = closing(await startKoaSite(server, { tokens: { encryptionKeys: keys.read } }))
    const tab = site.browser()
    await site.login(tab)
    expect((await tab.get('/token')).status).toBe(200)
    keys.isDown = true
    const late = closing(
      await startKoaSite(server, { store: site.store, tokens: { encryptionKeys: keys.read } }),
    )
    late.handle('/plain', () => 'plain')
    const visitor = late.browser(tab)
    expect((await visitor.get('/token')).status).toBe(503)
    expect((await visitor.get('/plain')).status).toBe(200)
    keys.isDown = false
    late.clock.advance(MINUTE_MS)
    expect((await visitor.get('/token')).status).toBe(200)
  })

  it('S105 a reference waits for the keys', async () => {
    const key = newKey()
    const site = await start({ tokens: { encryptionKeys: [key] } })
    site.handle('/reference', (request) => request.tokens.offlineReference())
    const tab = await loggedIn(site)
    const reference = (await tab.get('/reference')).json as string
    const keys = vault([key])
    keys.isDown = true
    const worker = await start({ store: site.store.store, tokens: { encryptionKeys: keys.read } })
    const tokens = worker.middleware.offline(reference)
    await expect(tokens.getAccessToken()).rejects.toMatchObject({ code: 'ERR_SESSION_STORE' })
    expect(tokens.hasTokens()).toBe(true)
  })

  it('S105 login() takes the same function', async () => {
    const keys = vault([LOGIN_KEY])
    const site = closing(
      await startLoginSite({ tokens: { encryptionKeys: keys.read }, login: { encryptionKeys: keys.read } }),
    )
    const visitor = await site.loggedIn()
    expect((await site.step(visitor, '/orders')).status).toBe(200)
  })
})

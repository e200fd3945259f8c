import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import type { Request } from 'express'
import session from 'express-session'
import { FAST_WRITE_MS } from '../../lib/concurrency/time-constants.js'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'
import type { TokenSet } from '../../lib/tokens/token-set.js'
import type { Browser } from '../helpers/browser.js'
import { createGate } from '../helpers/gate.js'
import { nextCommit, someTurnsOfTheLoop } from '../helpers/next-commit.js'
import {
  destroyed,
  destroyedByStore,
  regenerated,
  regeneratedWithData,
  saved,
} from '../helpers/session-deeds.js'
import { tokensIn as copyIn, recordingGrants, type Site, type SiteOptions } from '../helpers/site.js'
import { readSession, sameSessions } from '../helpers/stores.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const ok = { status: 200 }
const loggedOut = { status: 401, json: { code: 'ERR_NO_TOKENS' } }

const { server, start, held, loggedIn } = await testSites()

/** Every refresh token that the authorization server gave out in a test, in order. */
let issued: string[] = []

server.provider.on('refresh_token.saved', (token) => {
  if (!issued.includes(token.jti)) issued.push(token.jti)
})
beforeEach(() => {
  issued = []
})

/** The tokens of a session whose user is logged in. */
async function tokensIn(site: Site, tab: Browser): Promise<TokenSet & { refreshToken: string }> {
  return (await site.storedTokens(tab)) as TokenSet & { refreshToken: string }
}

function revoked(token: string): boolean {
  return server.revocations.some((revocation) => revocation.token === token)
}

function eventsOf(site: Site): string[] {
  return site.events.map(({ type }) => type)
}

/** Nobody is logged in, whatever a request tries, now and after another save. */
async function expectLoggedOut(site: Site, tab: Browser): Promise<void> {
  site.handle('/has', (request) => {
    request.session.views = (request.session.views ?? 0) + 1
    return { has: request.tokens.hasTokens(), idToken: request.tokens.idToken ?? null }
  })
  const later = tab.clone()
  expect(await site.storedTokens(tab)).toBeUndefined()
  expect(await later.get('/token')).toMatchObject(loggedOut)
  expect((await later.get('/has')).json).toEqual({ has: false, idToken: null })
  expect(await site.storedTokens(later)).toBeUndefined()
  expect(await later.get('/token')).toMatchObject(loggedOut)
}

async function expectLoggedIn(site: Site, tab: Browser, tokens: { refreshToken: string }): Promise<void> {
  expect(await tab.get('/token')).toMatchObject(ok)
  expect((await tokensIn(site, tab)).refreshToken).toBe(tokens.refreshToken)
  expect(await server.isActive(tokens.refreshToken)).toBe(true)
  site.clock.advance(HOUR_MS)
  expect(await tab.get('/token')).toMatchObject(ok)
  expect(await server.isActive((await tokensIn(site, tab)).refreshToken)).toBe(true)
}

/** Two sites over the same sessions that share a grant store, as two processes do. */
async function startTwo(): Promise<[Site, Site]> {
  const grants = memoryGrantStore()
  const sessions = new session.MemoryStore()
  return [
    await start({ store: sessions, surroundings: { grants } }),
    await start({ store: sameSessions(sessions), surroundings: { grants } }),
  ]
}

type Deed = (request: Request) => unknown

/** Resolves when the session holds no tokens any more: the grant has ended by then. */
async function cleared(site: Site, tab: Browser): Promise<void> {
  while (await site.storedTokens(tab)) await new Promise(setImmediate)
}

describe('S35 revoke() during a refresh: the session stays logged out', () => {
  it.each([
    ['before the authorization server has', 'hold'],
    ['after the authorization server has spent', 'holdAnswer'],
  ] as const)(
    'S35 %s the refresh token: the newest one is revoked when the refresh ends, and no other',
    async (_, point) => {
      const site = await start()
      const tab = await loggedIn(site)
      site.clock.advance(HOUR_MS)
      const gate = held(server[point]())
      const token = tab.get('/token')
      await gate.reached
      const out = tab.clone().post('/logout')
      await cleared(site, tab)
      expect(await tab.clone().get('/token')).toMatchObject(loggedOut)
      expect(issued.map(revoked)).not.toContain(true)
      gate.release()
      expect(await out).toMatchObject(ok)
      expect(await token).toMatchObject(loggedOut)
      expect(issued.map(revoked)).toEqual([false, true])
      expect(await server.isActive(issued[1]!)).toBe(false)
      expect(eventsOf(site)).toEqual(['ended', 'late_tokens_revoked', 'refresh_failed'])
      await expectLoggedOut(site, tab)
    },
  )

  it.each(['invalid_client', 'invalid_scope', 429] as const)(
    'S35 and the server refuses the refresh with %s: the refresh token is unspent, and is revoked',
    async (fault) => {
      const site = await start()
      const tab = await loggedIn(site)
      site.clock.advance(HOUR_MS)
      server.failNext(fault)
      const gate = held(server.hold())
      const token = tab.get('/token')
      await gate.reached
      const out = tab.clone().post('/logout')
      await cleared(site, tab)
      gate.release()
      expect(await out).toMatchObject(ok)
      await token
      expect(issued.map(revoked)).toEqual([true])
      await expectLoggedOut(site, tab)
    },
  )

  it.each(['reset-after', 'garbage', 503] as const)(
    'S35 and the response is lost (%s): the refresh token may be spent, so the access token is revoked',
    async (fault) => {
      const site = await start()
      const tab = await loggedIn(site)
      const { accessTokens } = await tokensIn(site, tab)
      site.clock.advance(HOUR_MS)
      server.failNext(fault)
      const gate = held(server.hold())
      const token = tab.get('/token')
      await gate.reached
      const out = tab.clone().post('/logout')
      await cleared(site, tab)
      gate.release()
      expect(await out).toMatchObject({ status: 503 })
      await token
      expect(issued.map(revoked)).not.toContain(true)
      expect(revoked(accessTokens[0]!.token)).toBe(true)
      // A 503 with Retry-After stops all refreshes for this time.
      const opened = fault === 503 ? ['breaker_opened'] : []
      expect(eventsOf(site)).toEqual(['ended', ...opened, 'revocation_failed', 'refresh_failed'])
      await expectLoggedOut(site, tab)
    },
  )

  it('S35 after a refresh whose response was lost: the refresh token may be spent', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    site.clock.advance(HOUR_MS)
    server.failNext('reset-after')
    expect(await tab.get('/token')).toMatchObject({ status: 503 })
    expect(await tab.post('/logout')).toMatchObject({ status: 503 })
    expect(issued.map(revoked)).not.toContain(true)
    await expectLoggedOut(site, tab)
  })

  it('S35 after a lost response and a refused request: the refresh token may be spent all the same', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    site.clock.advance(HOUR_MS)
    server.failNext('reset-after')
    expect(await tab.get('/token')).toMatchObject({ status: 503 })
    site.clock.advance(HOUR_MS)
    server.failNext('invalid_client')
    expect((await tab.get('/token')).json.code).toBe('ERR_CLIENT_REJECTED')
    expect(await tab.post('/logout')).toMatchObject({ status: 503 })
    expect(issued.map(revoked)).not.toContain(true)
    await expectLoggedOut(site, tab)
  })

  it('S35 after a response with the same refresh token and no access token: it is revoked', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    const { refreshToken } = await tokensIn(site, tab)
    site.clock.advance(HOUR_MS)
    server.failNext({ status: 200, body: { refresh_token: refreshToken, token_type: 'Bearer' } })
    expect((await tab.get('/token')).json.code).toBe('ERR_INVALID_TOKEN_RESPONSE')
    expect(await tab.post('/logout')).toMatchObject(ok)
    expect(issued.map(revoked)).toEqual([true])
    await expectLoggedOut(site, tab)
  })

  it('S35 and the refresh takes longer than the caller waits: the caller gets an error, and the tokens are revoked later', async () => {
    const site = await start({ tokens: { timeoutMs: 50 } })
    const tab = await loggedIn(site)
    site.clock.advance(HOUR_MS)
    const gate = held(server.hold())
    const token = tab.get('/token')
    await gate.reached
    expect(await tab.clone().post('/logout')).toMatchObject({ status: 503 })
    await cleared(site, tab)
    gate.release()
    await token
    await site.mounted.manager.close()
    expect(issued.map(revoked)).toEqual([false, true])
    await expectLoggedOut(site, tab)
  })

  it.each(['hold', 'holdAnswer'] as const)(
    'S35 revoke() in another process, during %s(): the holder of the lease revokes the newest refresh token',
    async (point) => {
      const [one, other] = await startTwo()
      const tab = await loggedIn(one)
      one.clock.advance(HOUR_MS)
      const gate = held(server[point]())
      const token = tab.get('/token')
      await gate.reached
      expect(await other.visitorOf(tab).post('/logout')).toMatchObject(ok)
      expect(issued.map(revoked)).not.toContain(true)
      gate.release()
      expect(await token).toMatchObject(loggedOut)
      expect(issued.map(revoked)).toEqual([false, true])
      await expectLoggedOut(one, tab)
    },
  )

  it('S35 revoke() in another process, and the refresh is rejected: the lease holder revokes its tokens', async () => {
    const grants = recordingGrants()
    const sessions = new session.MemoryStore()
    const one = await start({ store: sessions, tokens: { grants } })
    const other = await start({ store: sameSessions(sessions), tokens: { grants } })
    const tab = await loggedIn(one)
    one.clock.advance(HOUR_MS)
    server.failNext('invalid_client')
    const gate = held(server.hold())
    const token = tab.get('/token')
    await gate.reached
    expect(await other.visitorOf(tab).post('/logout')).toMatchObject(ok)
    gate.release()
    await token
    expect(issued.map(revoked)).toEqual([true])
    await expectLoggedOut(one, tab)
  })

  it.each(['hold', 'holdAnswer'] as const)(
    'S35 clear() during %s(): the late refresh token is revoked, though the old one was not',
    async (point) => {
      const site = await start()
      const tab = await loggedIn(site)
      site.handle('/clear', (request) => request.tokens.clear())
      site.clock.advance(HOUR_MS)
      const gate = held(server[point]())
      const token = tab.get('/token')
      await gate.reached
      expect(await tab.post('/clear')).toMatchObject(ok)
      gate.release()
      expect(await token).toMatchObject(loggedOut)
      expect(issued).toHaveLength(2)
      expect(issued.map(revoked)).toEqual([false, true])
      expect(await server.isActive(issued[1]!)).toBe(false)
      await expectLoggedOut(site, tab)
    },
  )

  it('S35 before the refresh has looked at the session again: the refresh token is not presented', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    const loaded = createGate()
    site.handle('/orders', async (request) => {
      await loaded.pass()
      return request.tokens.getAccessToken()
    })
    const orders = tab.get('/orders')
    await loaded.reached
    const slow = held(site.slow('/out', (request) => request.tokens.revoke()))
    const out = tab.post('/out')
    await slow.reached
    site.clock.advance(HOUR_MS)
    const reading = held(site.store.hold('get'))
    const before = server.tokenRequests.length
    loaded.release()
    await reading.reached
    slow.release()
    reading.release()
    expect(await out).toMatchObject(ok)
    expect(await orders).toMatchObject(loggedOut)
    expect(server.tokenRequests.length).toBe(before)
    await expectLoggedOut(site, tab)
  })

  it('S35 while the refresh is being written to the store', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    const leaving = createGate()
    site.handle('/out', (request) => {
      void leaving.pass()
      return request.tokens.revoke()
    })
    site.clock.advance(HOUR_MS)
    const write = held(site.store.hold('set'))
    const token = tab.get('/token')
    await write.reached
    const out = tab.post('/out')
    await leaving.reached
    write.release()
    expect(await out).toMatchObject(ok)
    await token
    expect(issued).toHaveLength(2)
    expect(await server.isActive(issued[1]!)).toBe(false)
    await expectLoggedOut(site, tab)
  })

  it.each(['hold', 'holdAnswer'] as const)(
    'S35 in the request that refreshes, during %s()',
    async (point) => {
      const site = await start({ tokens: { timeoutMs: 100 } })
      const tab = await loggedIn(site)
      site.handle('/both', async (request) => {
        request.session.views = 7
        site.clock.advance(HOUR_MS)
        const gate = held(server[point]())
        const token = request.tokens.getAccessToken()
        await gate.reached
        await expect(request.tokens.revoke()).rejects.toMatchObject({ status: 503 })
        gate.release()
        await token.catch(() => {})
        await site.mounted.manager.close()
        return token
      })
      await tab.get('/both')
      expect(issued).toHaveLength(2)
      for (const refreshToken of issued) expect(await server.isActive(refreshToken)).toBe(false)
      expect(await site.stored(tab)).toMatchObject({ views: 7 })
      await expectLoggedOut(site, tab)
    },
  )

  it.each(['revoke', 'clear'] as const)(
    'S35 the store has no tokens any more when %s() resolves',
    async (end) => {
      const site = await start()
      const tab = await loggedIn(site)
      site.handle('/out', async (request) => {
        request.session.views = 7
        await request.tokens[end]()
        return { stored: await site.stored(tab) }
      })
      const { stored } = (await tab.post('/out')).json
      expect(Object.keys(stored)).toEqual(['cookie'])
      expect(await site.stored(tab)).toMatchObject({ views: 7 })
      await expectLoggedOut(site, tab)
    },
  )

  it('S35 with twenty callers: no caller gets a token', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    site.clock.advance(HOUR_MS)
    const gate = held(server.holdAnswer())
    const waiting = createGate()
    site.handle('/orders', (request) => {
      void waiting.pass()
      return request.tokens.getAccessToken()
    })
    const answers = Array.from({ length: 20 }, () => tab.get('/orders'))
    await Promise.all([gate.reached, waiting.reachedBy(20)])
    const out = tab.clone().post('/logout')
    await cleared(site, tab)
    gate.release()
    expect(await out).toMatchObject(ok)
    for (const answer of answers) expect(await answer).toMatchObject(loggedOut)
    await expectLoggedOut(site, tab)
  })

  it.each(['hold', 'holdAnswer'] as const)(
    'S35 in another process, during %s(): tokens that arrive late are revoked',
    async (point) => {
      const [one, other] = await startTwo()
      const tab = await loggedIn(one)
      const tabThere = other.visitorOf(tab)
      other.handle('/clear', (request) => request.tokens.clear())
      one.clock.advance(HOUR_MS)
      const gate = held(server[point]())
      const token = tab.get('/token')
      await gate.reached
      expect(await tabThere.post('/clear')).toMatchObject(ok)
      gate.release()
      expect(await token).toMatchObject(loggedOut)
      expect(issued.map(revoked)).toEqual([false, true])
      await expectLoggedOut(one, tab)
      await expectLoggedOut(other, tabThere)
    },
  )

  it('S35 the late refresh token cannot be revoked: an event is emitted', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    site.handle('/clear', (request) => request.tokens.clear())
    site.clock.advance(HOUR_MS)
    const gate = held(server.holdAnswer())
    const token = tab.get('/token')
    await gate.reached
    await tab.post('/clear')
    server.failNextRevocation(503)
    gate.release()
    expect(await token).toMatchObject(loggedOut)
    expect(eventsOf(site)).toEqual(['ended', 'revocation_failed', 'refresh_failed'])
    await expectLoggedOut(site, tab)
  })

  it('S35 and a slow request with resave: true saves its old session last', async () => {
    const site = await start({ session: { resave: true } })
    const tab = await loggedIn(site)
    const slow = held(site.slow('/report'))
    const report = tab.get('/report')
    await slow.reached
    site.clock.advance(HOUR_MS)
    const gate = held(server.holdAnswer())
    const token = tab.get('/token')
    await gate.reached
    const out = tab.clone().post('/logout')
    await cleared(site, tab)
    gate.release()
    expect(await out).toMatchObject(ok)
    await token
    slow.release()
    await report
    await expectLoggedOut(site, tab)
  })
})

describe('S36 the session is deleted, then a slow request saves its old session: no token comes back', () => {
  const ends: [string, Partial<SiteOptions>, Deed][] = [
    ['req.session.destroy()', {}, destroyed],
    ['store.destroy(sid)', {}, destroyedByStore],
    [
      "req.session = null with unset: 'destroy'",
      { session: { unset: 'destroy' } },
      (request) => Object.assign(request, { session: null }),
    ],
    ['regenerate() without the data', {}, regenerated],
    ['revoke()', {}, (request) => request.tokens.revoke()],
    ['clear()', {}, (request) => request.tokens.clear()],
    [
      'delete req.session.tokens',
      {},
      (request) => {
        delete request.session.tokens
      },
    ],
  ]
  const saves: [string, SiteOptions['session'], Deed][] = [
    ['because of resave: true', { resave: true }, () => {}],
    [
      'because it changed it',
      {},
      (request) => {
        request.session.views = 7
      },
    ],
    ['by save()', {}, saved],
  ]

  describe.each(saves)('saved %s', (_, sessionOptions, save) => {
    it.each(ends)('S36 after %s', async (_, options, end) => {
      const site = await start({ ...options, session: { ...sessionOptions, ...options.session } })
      const tab = await loggedIn(site)
      const old = tab.clone()
      site.handle('/end', async (request) => void (await end(request)))
      const slow = held(site.slow('/slow', save))
      const answer = old.get('/slow')
      await slow.reached
      expect(await tab.get('/end')).toMatchObject(ok)
      slow.release()
      await answer
      expect(await site.stored(old)).toBeDefined()
      await expectLoggedOut(site, old)
    })

    it.each(ends)('S36 after %s, during a refresh in flight', async (_, options, end) => {
      const site = await start({ ...options, session: { ...sessionOptions, ...options.session } })
      const tab = await loggedIn(site)
      const old = tab.clone()
      site.handle('/end', async (request) => void (await end(request)))
      const slow = held(site.slow('/slow', save))
      const answer = old.get('/slow')
      await slow.reached
      site.clock.advance(HOUR_MS)
      const gate = held(server.holdAnswer())
      const token = old.get('/token')
      await gate.reached
      const ended = tab.get('/end')
      await cleared(site, old)
      gate.release()
      expect(await ended).toMatchObject(ok)
      await token
      slow.release()
      await answer
      await expectLoggedOut(site, old)
    })
  })

  it.each(ends.filter(([name]) => name !== 'regenerate() without the data'))(
    'S36 after %s the slow request gets no token either, and late tokens are revoked',
    async (_, options, end) => {
      const site = await start(options)
      const tab = await loggedIn(site)
      const old = tab.clone()
      site.handle('/end', async (request) => void (await end(request)))
      const slow = held(site.slow('/slow', (request) => request.tokens.getAccessToken()))
      const answer = old.get('/slow')
      await slow.reached
      site.clock.advance(HOUR_MS)
      const gate = held(server.holdAnswer())
      const token = old.get('/token')
      await gate.reached
      const ended = tab.get('/end')
      await cleared(site, old)
      gate.release()
      expect(await ended).toMatchObject(ok)
      expect(await token).toMatchObject(loggedOut)
      slow.release()
      expect(await answer).toMatchObject(loggedOut)
      expect(issued).toHaveLength(2)
      expect(revoked(issued[1]!)).toBe(true)
    },
  )

  it.each(ends.filter(([name]) => name !== 'regenerate() without the data'))(
    'S36 after %s the slow request gets no token, though the one in its session is still valid',
    async (_, options, end) => {
      const site = await start(options)
      const tab = await loggedIn(site)
      const old = tab.clone()
      site.handle('/end', async (request) => void (await end(request)))
      const slow = held(site.slow('/slow', (request) => request.tokens.getAccessToken()))
      const answer = old.get('/slow')
      await slow.reached
      expect(await tab.get('/end')).toMatchObject(ok)
      slow.release()
      expect(await answer).toMatchObject(loggedOut)
    },
  )

  it('S36 destroyed while its store reports that it cannot read: the tokens end all the same', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    const old = tab.clone()
    const slow = held(
      site.slow('/slow', async (request) => {
        await saved(request)
        return request.tokens.getAccessToken()
      }),
    )
    const answer = old.get('/slow')
    await slow.reached
    site.handle('/end', async (request) => {
      site.store.failNext('get')
      await destroyed(request)
    })
    expect(await tab.get('/end')).toMatchObject(ok)
    slow.release()
    expect(await answer).toMatchObject(loggedOut)
    await expectLoggedOut(site, old)
  })

  it('S36 regenerate() without the data, while the store is slow: a refresh does not bring the old session back', async () => {
    const grants = memoryGrantStore()
    const site = await start({ surroundings: { grants } })
    const tab = await loggedIn(site)
    const old = tab.clone()
    const gone = held(createGate())
    site.handle('/end', async (request) => {
      await regenerated(request)
      await gone.pass()
    })
    site.clock.advance(HOUR_MS)
    const answer = held(server.holdAnswer())
    const token = old.get('/token')
    await answer.reached
    const destroying = held(site.store.hold('destroy'))
    const end = tab.get('/end')
    await destroying.reached
    const writing = held(site.store.hold('set'))
    const committed = nextCommit(grants)
    answer.release()
    await committed
    destroying.release()
    await gone.reached
    writing.release()
    await token
    expect(await site.stored(old)).toBeUndefined()
    gone.release()
    await end
  })
})

describe('the session is removed from the request, then it logs out: the grant ends', () => {
  const leavings: [string, Deed][] = [
    ['req.session = null', (request) => Object.assign(request, { session: null })],
    ['destroy()', destroyed],
    ['regenerate()', regenerated],
    ['regenerate() with the data', regeneratedWithData],
  ]

  describe.each(leavings)('after %s', (_, leave) => {
    it('by revoke(): the authorization server revokes the tokens', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const { refreshToken } = await tokensIn(site, tab)
      const old = tab.clone()
      const slow = held(site.slow('/slow', (request) => request.tokens.getAccessToken()))
      const answer = old.get('/slow')
      await slow.reached
      site.handle('/end', async (request) => {
        await leave(request)
        await request.tokens.revoke()
      })
      expect(await tab.get('/end')).toMatchObject(ok)
      expect(revoked(refreshToken)).toBe(true)
      slow.release()
      expect(await answer).toMatchObject(loggedOut)
      await expectLoggedOut(site, old)
      if (tab.cookie('connect.sid') !== old.cookie('connect.sid')) await expectLoggedOut(site, tab)
    })

    it('by clear(): the authorization server gets no request', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const { grantId, refreshToken } = await tokensIn(site, tab)
      const old = tab.clone()
      site.handle('/end', async (request) => {
        await leave(request)
        await request.tokens.clear()
      })
      expect(await tab.get('/end')).toMatchObject(ok)
      expect(site.mounted.manager.sessionGrants.newestOf({ grantId })).toBe('ended')
      expect(revoked(refreshToken)).toBe(false)
      expect(await old.get('/token')).toMatchObject(loggedOut)
      expect(await site.storedTokens(old)).toBeUndefined()
    })
  })

  it('which has no effect on a login of another request', async () => {
    const site = await start()
    const tab = await loggedIn(site, 'alice')
    const slow = held(
      site.slow('/slow', async (request) => {
        Object.assign(request, { session: null })
        await request.tokens.revoke()
      }),
    )
    const answer = tab.get('/slow')
    await slow.reached
    await site.login(tab, 'bob')
    const bob = await tokensIn(site, tab)
    slow.release()
    expect(await answer).toMatchObject(ok)
    await expectLoggedIn(site, tab, bob)
  })
})

describe('destroy() in one request, while another one regenerates the session with its data: it is a logout', () => {
  it.each(['destroy', 'regenerate'])('whichever comes first: %s()', async (first) => {
    const site = await start()
    const tab = await loggedIn(site)
    const { grantId } = await tokensIn(site, tab)
    const moving = tab.clone()
    const move = held(site.slow('/move', regeneratedWithData))
    const end = held(site.slow('/end', destroyed))
    const answers = Promise.all([moving.get('/move'), tab.get('/end')])
    await Promise.all([move.reached, end.reached])
    const gate = held(site.store.hold('destroy'))
    const [one, other] = first === 'destroy' ? [end, move] : [move, end]
    one.release()
    await gate.reached
    other.release()
    await someTurnsOfTheLoop()
    gate.release()
    expect((await answers).map(({ status }) => status)).toEqual([200, 200])
    expect(site.mounted.manager.sessionGrants.newestOf({ grantId })).toBe('ended')
    await expectLoggedOut(site, moving)
  })
})

describe('the app removes the tokens by itself', () => {
  it('by delete req.session.tokens: it is a logout, for every request', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    site.handle('/out', (request) => {
      delete request.session.tokens
    })
    await tab.get('/out')
    await expectLoggedOut(site, tab)
  })

  it('by delete req.session.tokens, in a store that reads slowly: the grant is ended once', async () => {
    const store = new session.MemoryStore()
    const get = store.get.bind(store)
    store.get = (sid, callback) => void setTimeout(() => get(sid, callback), FAST_WRITE_MS + 10)
    const site = await start({ store })
    const tab = await loggedIn(site)
    const end = jest.spyOn(site.mounted.manager.sessionGrants, 'end')
    site.handle('/out', (request) => {
      delete request.session.tokens
    })
    await tab.get('/out')
    expect(end).toHaveBeenCalledTimes(1)
    await expectLoggedOut(site, tab)
  })

  it('by store.set() of a session without them: the next request that saves does not bring them back', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    site.handle('/views', (request) => {
      request.session.views = 7
    })
    await tab.get('/views')
    const sid = decodeURIComponent(tab.cookie('connect.sid')!).slice(2).split('.')[0]!
    const { tokens: _, ...rest } = (await site.stored(tab)) as { tokens: unknown; cookie: never }
    await new Promise((resolve) => site.store.store.set(sid, rest, resolve))
    await expectLoggedOut(site, tab)
  })

  it('in a route before sessionTokens(): the tokens do not come back', async () => {
    const site = await start({
      before(request, response, next) {
        if (request.path !== '/out') return next()
        delete request.session.tokens
        response.json(null)
      },
    })
    const tab = await loggedIn(site)
    await tab.get('/out')
    await expectLoggedOut(site, tab)
  })
})

describe('logout in one process', () => {
  it('the next request in another, which saves its session, does not bring the tokens back', async () => {
    const [one, other] = await startTwo()
    const tab = await loggedIn(one)
    const tabThere = other.visitorOf(tab)
    expect(await tabThere.post('/logout')).toMatchObject(ok)
    await expectLoggedOut(one, tab)
  })

  it('a slow request in another that saves its old session: its tokens are not refreshed', async () => {
    const [one, other] = await startTwo()
    const tab = await loggedIn(one)
    const slow = held(one.slow('/slow', saved))
    const answer = tab.get('/slow')
    await slow.reached
    expect(await other.visitorOf(tab).post('/logout')).toMatchObject(ok)
    slow.release()
    await answer
    one.clock.advance(HOUR_MS)
    const before = server.tokenRequests.length
    expect(await tab.get('/token')).toMatchObject(loggedOut)
    expect(server.tokenRequests.length).toBe(before)
    one.handle('/views', (request) => {
      request.session.views = 7
    })
    await tab.get('/views')
    await expectLoggedOut(one, tab)
  })
})

describe('S37 login as another user during a refresh: the old result is not written to the new session', () => {
  const logins: [string, (request: Request) => Promise<void>][] = [
    ['under the same session id', async () => {}],
    ['under a new session id', regenerated],
  ]

  describe.each(logins)('%s', (_, prepare) => {
    it.each(['hold', 'holdAnswer'] as const)('S37 during %s()', async (point) => {
      const site = await start()
      const tab = await loggedIn(site, 'alice')
      const old = tab.clone()
      const alice = await tokensIn(site, tab)
      site.handle('/login', async (request) => {
        await prepare(request)
        request.session.user = 'bob'
        await request.tokens.set(request.body)
      })
      site.clock.advance(HOUR_MS)
      const gate = held(server[point]())
      const token = old.get('/token')
      await gate.reached
      await site.login(tab, 'bob')
      const bob = await tokensIn(site, tab)
      expect(bob.grantId).not.toBe(alice.grantId)
      gate.release()
      await token
      expect(await tokensIn(site, tab)).toEqual(bob)
      expect(await site.stored(tab)).toMatchObject({ user: 'bob' })
      await expectLoggedIn(site, tab, bob)
    })
  })

  it.each(['hold', 'holdAnswer'] as const)(
    "S37 during %s(): the old user's late refresh token is revoked, and her request gets no token",
    async (point) => {
      const site = await start()
      const tab = await loggedIn(site, 'alice')
      site.clock.advance(HOUR_MS)
      const gate = held(server[point]())
      const token = tab.get('/token')
      await gate.reached
      await site.login(tab, 'bob')
      gate.release()
      expect(await token).toMatchObject(loggedOut)
      const late = issued.filter(revoked)
      expect(late).toHaveLength(1)
      expect(await server.isActive(late[0]!)).toBe(false)
      await expectLoggedIn(site, tab, await tokensIn(site, tab))
    },
  )

  it.each([true, false])("S37 the old user's slow request saves last, resave: %s", async (resave) => {
    const site = await start({ session: { resave } })
    const tab = await loggedIn(site, 'alice')
    const slow = held(
      site.slow('/slow', (request) => {
        if (!resave) request.session.views = 7
      }),
    )
    const answer = tab.get('/slow')
    await slow.reached
    site.clock.advance(HOUR_MS)
    const gate = held(server.holdAnswer())
    const token = tab.get('/token')
    await gate.reached
    await site.login(tab, 'bob')
    const bob = await tokensIn(site, tab)
    gate.release()
    await token
    slow.release()
    await answer
    await expectLoggedIn(site, tab, bob)
  })

  it("S37 the old user's slow request saves last, with tokens that were refreshed more often", async () => {
    const site = await start()
    const tab = await loggedIn(site, 'alice')
    site.clock.advance(HOUR_MS)
    expect(await tab.get('/token')).toMatchObject(ok)
    const slow = held(site.slow('/slow', saved))
    const answer = tab.get('/slow')
    await slow.reached
    await site.login(tab, 'bob')
    const bob = await tokensIn(site, tab)
    slow.release()
    expect(await answer).toMatchObject(ok)
    await expectLoggedIn(site, tab, bob)
  })

  it.each(['hold', 'holdAnswer'] as const)(
    'S37 in the request that refreshes, under a new session id, during %s()',
    async (point) => {
      const site = await start()
      const tab = await loggedIn(site, 'alice')
      site.handle('/switch', async (request) => {
        site.clock.advance(HOUR_MS)
        const gate = held(server[point]())
        const token = request.tokens.getAccessToken()
        await gate.reached
        await regenerated(request)
        await request.tokens.set(request.body)
        const bob = copyIn(request.session)
        gate.release()
        await token
        // Now, before express-session saves the session that is new.
        return { bob, stored: copyIn(await readSession(site.store.store, request.sessionID)) }
      })
      const { bob, stored } = (await tab.post('/switch', await server.login('bob'))).json
      expect(stored).toEqual(bob)
      expect(await tokensIn(site, tab)).toEqual(bob)
      await expectLoggedIn(site, tab, bob)
    },
  )
  it('S37 the old user saves her session while the login is being stored', async () => {
    const site = await start()
    const tab = await loggedIn(site, 'alice')
    const alice = await tokensIn(site, tab)
    const saving = createGate()
    const slow = held(
      site.slow('/slow', (request) => {
        void saving.pass()
        return saved(request)
      }),
    )
    const answer = tab.get('/slow')
    await slow.reached
    const write = held(site.store.holdAnswer('set'))
    const login = site.login(tab, 'bob')
    await write.reached
    slow.release()
    await saving.reached
    write.release()
    await Promise.all([login, answer])
    const bob = await tokensIn(site, tab)
    expect(bob.grantId).not.toBe(alice.grantId)
    await expectLoggedIn(site, tab, bob)
  })

  /** The tokens of a login by a browser that the authorization server knows: it goes on with the grant that it has. */
  async function loginAgain(refreshToken: string): Promise<Record<string, string>> {
    const { provider } = server
    const { grantId } = (await provider.RefreshToken.find(refreshToken))!
    const parameters = await server.authorize('alice')
    const code = (await provider.AuthorizationCode.find(parameters.code))!
    code.grantId = grantId!
    await code.save()
    return { ...parameters }
  }

  it.each([
    ['hold', 'under the same session id', async () => {}],
    ['holdAnswer', 'under the same session id', async () => {}],
    ['hold', 'under a new session id', regenerated],
    ['holdAnswer', 'under a new session id', regenerated],
  ] as const)(
    'S37 during %s() the same user logs in again, %s: the new login survives',
    async (point, _, prepare) => {
      const site = await start()
      const tab = await loggedIn(site, 'alice')
      const old = tab.clone()
      const first = await tokensIn(site, tab)
      site.handle('/login-again', async (request) => {
        await prepare(request)
        await request.tokens.acquire(request.body)
      })
      const parameters = await loginAgain(first.refreshToken)
      site.clock.advance(HOUR_MS)
      const gate = held(server[point](({ grantType }) => grantType === 'refresh_token'))
      const token = old.get('/token')
      await gate.reached
      expect(await tab.post('/login-again', parameters)).toMatchObject(ok)
      const second = await tokensIn(site, tab)
      expect(second.grantId).not.toBe(first.grantId)
      gate.release()
      await token
      await expectLoggedIn(site, tab, second)
    },
  )

  it.each(['hold', 'holdAnswer'] as const)(
    'S37 during %s() the same user logs in again in another process: the new login survives',
    async (point) => {
      const [one, other] = await startTwo()
      const tab = await loggedIn(one, 'alice')
      const first = await tokensIn(one, tab)
      other.handle('/login-again', (request) => request.tokens.acquire(request.body))
      const parameters = await loginAgain(first.refreshToken)
      other.clock.advance(HOUR_MS)
      one.clock.advance(HOUR_MS)
      const gate = held(server[point](({ grantType }) => grantType === 'refresh_token'))
      const token = tab.get('/token')
      await gate.reached
      expect(await other.visitorOf(tab).post('/login-again', parameters)).toMatchObject(ok)
      const second = await tokensIn(one, tab)
      gate.release()
      await token
      await expectLoggedIn(one, tab, second)
    },
  )
})

describe('a request from before the login saves its session after it: the login stays', () => {
  it.each([true, false])('with resave: %s', async (resave) => {
    const site = await start({ session: { resave } })
    const tab = site.browser()
    site.handle('/visit', (request) => {
      request.session.user = 'nobody'
    })
    await tab.get('/visit')
    const slow = held(
      site.slow('/slow', (request) => {
        if (!resave) request.session.views = 7
      }),
    )
    const answer = tab.get('/slow')
    await slow.reached
    await site.login(tab, 'alice')
    const alice = await tokensIn(site, tab)
    slow.release()
    await answer
    await expectLoggedIn(site, tab, alice)
  })

  it('and after a refresh of the login', async () => {
    const site = await start({ session: { resave: true } })
    const tab = site.browser()
    site.handle('/visit', (request) => {
      request.session.user = 'nobody'
    })
    await tab.get('/visit')
    const slow = held(site.slow('/slow'))
    const answer = tab.get('/slow')
    await slow.reached
    await site.login(tab, 'alice')
    site.clock.advance(HOUR_MS)
    expect(await tab.get('/token')).toMatchObject(ok)
    const alice = await tokensIn(site, tab)
    slow.release()
    await answer
    await expectLoggedIn(site, tab, alice)
  })

  it.each(['nobody', 'another user'])(
    'though it cannot read the stored session: %s was logged in',
    async (who) => {
      const site = await start()
      const tab = who === 'nobody' ? site.browser() : await loggedIn(site, 'bob')
      site.handle('/visit', (request) => {
        request.session.user = 'nobody'
      })
      await tab.get('/visit')
      const slow = held(
        site.slow('/slow', (request) => {
          request.session.views = 7
          site.store.failNext('get')
        }),
      )
      const answer = tab.get('/slow')
      await slow.reached
      await site.login(tab, 'alice')
      const alice = await tokensIn(site, tab)
      slow.release()
      expect(await answer).toMatchObject(ok)
      expect(await site.stored(tab)).toMatchObject({ views: 7 })
      await expectLoggedIn(site, tab, alice)
    },
  )

  it('though it cannot read the stored session, and the login was in another process', async () => {
    const sessions = new session.MemoryStore()
    const [one, other] = [await start({ store: sessions }), await start({ store: sameSessions(sessions) })]
    const tab = await loggedIn(one, 'bob')
    const tabThere = other.visitorOf(tab)
    await other.login(tabThere, 'alice')
    const alice = await tokensIn(other, tabThere)
    one.handle('/visit', (request) => {
      request.session.views = 7
      one.store.failNext('get')
    })
    expect(await tab.get('/visit')).toMatchObject(ok)
    await expectLoggedIn(one, tab, alice)
  })

  it('but not when the user has logged out again', async () => {
    const site = await start({ session: { resave: true } })
    const tab = site.browser()
    site.handle('/visit', (request) => {
      request.session.user = 'nobody'
    })
    await tab.get('/visit')
    const slow = held(site.slow('/slow'))
    const answer = tab.get('/slow')
    await slow.reached
    await site.login(tab, 'alice')
    await tab.post('/logout')
    slow.release()
    await answer
    await expectLoggedOut(site, tab)
  })
})

describe('S38 revoke() with the authorization server down: the user is logged out of the app, and the error is reported', () => {
  afterEach(async () => {
    await server.down()
    await server.up()
  })

  it.each([
    ['no server listens', () => server.down()],
    ['503', () => server.failNextRevocation(503)],
    ['the connection is reset', () => server.failNextRevocation('reset')],
  ])('S38 %s', async (_, fault) => {
    const site = await start()
    const tab = await loggedIn(site)
    const { refreshToken } = await tokensIn(site, tab)
    const slow = held(site.slow('/slow', saved))
    const answer = tab.get('/slow')
    await slow.reached
    await fault()
    expect(await tab.post('/logout')).toMatchObject({
      status: 503,
      json: { code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE' },
    })
    slow.release()
    await answer
    expect(await server.isActive(refreshToken)).toBe(true)
    await expectLoggedOut(site, tab)
  })

  it('S38 the session store and the authorization server both fail: the error is reported, and the user is logged out', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    site.handle('/logout', async (request) => {
      site.store.failNext('get', 1)
      await request.tokens.revoke()
    })
    server.failNextRevocation(503)
    expect((await tab.post('/logout')).status).toBe(503)
    await expectLoggedOut(site, tab)
  })

  it('S38 the response of the revocation never comes: the wait is bounded by refreshTimeoutMs', async () => {
    const site = await start({ tokens: { refreshTimeoutMs: 50 } })
    const tab = await loggedIn(site)
    server.failNextRevocation('silence')
    expect(await tab.post('/logout')).toMatchObject({
      status: 503,
      json: { code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE' },
    })
    await expectLoggedOut(site, tab)
  })
})

it('S37 a login on an old session id ends a login that it has not seen, also where that one has moved', async () => {
  const sessions = new session.MemoryStore()
  const site = await start({ store: sessions })
  const tab = site.browser()
  site.handle('/visit', (request) => {
    request.session.views = 7
  })
  site.handle('/move', regeneratedWithData)
  await tab.get('/visit')
  const old = tab.clone()
  const bob = await server.login('bob')
  const slow = held(site.slow('/slow', (request) => request.tokens.set(bob)))
  const login = old.get('/slow')
  await slow.reached
  await site.login(tab, 'alice')
  const alice = (await site.storedTokens(tab))!
  await tab.get('/move')
  slow.release()
  expect(await login).toMatchObject({ status: 200 })
  expect(site.mounted.manager.sessionGrants.newestOf({ grantId: alice.grantId })).toBe('ended')
  expect(await site.storedTokens(tab)).toBeUndefined()
  const restarted = await start({ store: sameSessions(sessions) })
  expect((await restarted.visitorOf(tab).get('/token')).status).toBe(401)
})

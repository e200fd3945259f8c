import { describe, expect, it } from '@jest/globals'
import type { Request } from 'express'
import session, { type SessionData } from 'express-session'
import { STORE_TIMEOUT_MS } from '../../../lib/concurrency/time-constants.js'
import { memoryGrantStore } from '../../../lib/grants/memory-grant-store.js'
import { destroyed } from '../../helpers/session-deeds.js'
import type { Site } from '../../helpers/site.js'
import { HOUR_MS, testSites } from '../../helpers/test-sites.js'

/* Stores that call their own public methods, which the library has replaced. No such call may wait for itself. */

/** A call that waits for itself ends with the time-out of the store. */
const PROMPT_MS = STORE_TIMEOUT_MS / 2
const ok = { status: 200 }
type Callback = (error?: unknown, session?: SessionData | null) => void

const { server, start, held, loggedIn, refresh, expectNewest } = await testSites()

interface Row {
  expires: number
  readonly text: string
}

/** Rows that expire. Each store treats an expired row in its own way. */
abstract class RowStore extends session.Store {
  readonly rows: Map<string, Row> = new Map()

  expireAll(): void {
    for (const row of this.rows.values()) row.expires = 0
  }

  override get(sid: string, callback: Callback): void {
    const row = this.rows.get(sid)
    setImmediate(callback, null, row && JSON.parse(row.text))
  }

  override set(sid: string, data: SessionData, callback?: Callback): void {
    this.rows.set(sid, { expires: Number.POSITIVE_INFINITY, text: JSON.stringify(data) })
    setImmediate(() => callback?.())
  }

  override destroy(sid: string, callback?: Callback): void {
    this.rows.delete(sid)
    setImmediate(() => callback?.())
  }
}

/** Like connect-mongodb-session: a read destroys an expired session, with the reader's own callback. */
class DestroysWhatItReads extends RowStore {
  override get(sid: string, callback: Callback): void {
    const row = this.rows.get(sid)
    if (row && row.expires <= Date.now()) setImmediate(() => this.destroy(sid, callback))
    else super.get(sid, callback)
  }
}

/** Like stores that use promises: a read waits until the expired session is destroyed. */
class AwaitsWhatItDestroys extends RowStore {
  override destroy = async (sid: string, callback?: Callback) => {
    await new Promise((resolve) => setImmediate(resolve))
    this.rows.delete(sid)
    callback?.()
  }

  override get(sid: string, callback: Callback): void {
    const read = async () => {
      await new Promise((resolve) => setImmediate(resolve))
      const row = this.rows.get(sid)
      if (!row) return undefined
      if (row.expires > Date.now()) return JSON.parse(row.text)
      await this.destroy(sid)
      return undefined
    }
    read().then((found) => callback(null, found), callback)
  }
}

/** Like connect-redis: storing an expired session destroys it. */
class DestroysWhatItStores extends RowStore {
  override set(sid: string, data: SessionData, callback?: Callback): void {
    const { expires } = data.cookie
    if (expires && new Date(expires).getTime() <= Date.now()) this.destroy(sid, callback)
    else super.set(sid, data, callback)
  }
}

/** Keeps a destroyed session, marked as such. */
class MarksWhatItDestroys extends RowStore {
  override destroy(sid: string, callback?: Callback): void {
    this.get(sid, (_error, data) => {
      if (data) this.set(sid, { cookie: data.cookie, user: 'nobody' } as SessionData, () => callback?.())
      else callback?.()
    })
  }
}

/** Has its state in private members. */
class PrivateStore extends DestroysWhatItStores {
  #operations = 0

  get operations(): number {
    return this.#operations
  }

  override get(sid: string, callback: Callback): void {
    this.#operations += 1
    super.get(sid, callback)
  }

  override set(sid: string, data: SessionData, callback?: Callback): void {
    this.#operations += 1
    this.emit('stored', sid)
    super.set(sid, data, callback)
  }
}

const stores = [
  DestroysWhatItReads,
  AwaitsWhatItDestroys,
  DestroysWhatItStores,
  MarksWhatItDestroys,
  PrivateStore,
]

describe.each(stores.map((Store) => [Store.name, Store] as const))('%s', (_, Store) => {
  it(
    'keeps a session and its newest tokens',
    async () => {
      const site = await start({ store: new Store() })
      const tab = await loggedIn(site)
      site.handle('/count', (request) => {
        request.session.views = 7
      })
      await refresh(site, tab)
      expect(await tab.get('/count')).toMatchObject(ok)
      expect(await site.stored(tab)).toMatchObject({ views: 7 })
      await expectNewest(site, tab)
    },
    PROMPT_MS,
  )

  it(
    'ends a session at once',
    async () => {
      const site = await start({ store: new Store() })
      const tab = await loggedIn(site)
      site.handle('/bye', destroyed)
      expect(await tab.get('/bye')).toMatchObject(ok)
      expect(await tab.get('/token')).toMatchObject({ status: 401 })
      expect(await site.storedTokens(tab)).toBeUndefined()
    },
    PROMPT_MS,
  )
})

describe.each([
  ['DestroysWhatItReads', DestroysWhatItReads],
  ['AwaitsWhatItDestroys', AwaitsWhatItDestroys],
] as const)('%s, and the session has expired', (_, Store) => {
  const deeds: [string, (site: Site, request: Request) => unknown][] = [
    ['is read', () => {}],
    ['is saved', (_, request) => Object.assign(request.session, { views: 7 })],
    ['is destroyed', (_, request) => destroyed(request)],
    ['is logged in again', async (_, request) => request.tokens.set(await server.login('bob'))],
    ['logs out', (_, request) => request.tokens.clear()],
  ]

  it(
    'before the request came: the user is asked to log in',
    async () => {
      const store = new Store()
      const site = await start({ store })
      const tab = await loggedIn(site)
      store.expireAll()
      expect(await tab.get('/token')).toMatchObject({ status: 401 })
      expect(store.rows.size).toBe(0)
      await site.login(tab)
      expect(await tab.get('/token')).toMatchObject(ok)
    },
    PROMPT_MS,
  )

  it.each(deeds)(
    'by the time that it %s',
    async (_, deed) => {
      const store = new Store()
      const site = await start({ store })
      const tab = await loggedIn(site)
      const slow = held(site.slow('/slow', (request) => void deed(site, request)))
      const answer = tab.get('/slow')
      await slow.reached
      store.expireAll()
      slow.release()
      expect(await answer).toMatchObject(ok)
    },
    PROMPT_MS,
  )

  it(
    'by the time that its refresh is stored: it stays expired',
    async () => {
      const store = new Store()
      const site = await start({ store })
      const tab = await loggedIn(site)
      site.clock.advance(HOUR_MS)
      const answer = held(server.holdAnswer())
      const token = tab.get('/token')
      await answer.reached
      store.expireAll()
      answer.release()
      expect(await token).toMatchObject(ok)
      expect(store.rows.size).toBe(0)
    },
    PROMPT_MS,
  )
})

describe('DestroysWhatItStores', () => {
  it(
    'has a session destroyed that expires now',
    async () => {
      const store = new DestroysWhatItStores()
      const site = await start({ store })
      const tab = await loggedIn(site)
      site.handle('/expire', (request) => {
        request.session.views = 7
        request.session.cookie.expires = new Date(Date.now() - 1)
      })
      expect(await tab.get('/expire')).toMatchObject(ok)
      expect(store.rows.size).toBe(0)
    },
    PROMPT_MS,
  )
})

/** Touches a session by storing it, with its own method. */
class StoresWhatItTouches extends RowStore {
  constructor(override readonly rows = new Map<string, Row>()) {
    super()
  }

  override touch(sid: string, touched: SessionData, callback?: Callback): void {
    this.get(sid, (_error, data) => {
      if (data) this.set(sid, { ...data, cookie: touched.cookie }, callback)
      else callback?.()
    })
  }
}

/** Touches a session by destroying it when it has expired. */
class DestroysWhatItTouches extends RowStore {
  override touch(sid: string, _touched: SessionData, callback?: Callback): void {
    if (this.rows.get(sid)!.expires <= Date.now()) this.destroy(sid, callback)
    else callback?.()
  }
}

describe('StoresWhatItTouches', () => {
  it(
    'does not wait for itself just after another process has refreshed',
    async () => {
      const grants = memoryGrantStore()
      const store = new StoresWhatItTouches()
      const site = await start({ store, tokens: { grants } })
      const other = await start({ store: new StoresWhatItTouches(store.rows), tokens: { grants } })
      const tab = await loggedIn(site)
      const visitor = other.visitorOf(tab)
      other.handle('/visit', () => {})
      const slow = held(other.slow('/slow'))
      const visit = visitor.get('/slow')
      await slow.reached
      await refresh(site, tab)
      slow.release()
      expect(await visit).toMatchObject(ok)
      expect(await visitor.get('/visit')).toMatchObject(ok)
      await expectNewest(site, tab)
    },
    PROMPT_MS,
  )
})

describe('DestroysWhatItTouches', () => {
  it(
    'has a session destroyed that has expired by the time that it is touched',
    async () => {
      const store = new DestroysWhatItTouches()
      const site = await start({ store })
      const tab = await loggedIn(site)
      const slow = held(site.slow('/slow'))
      const visit = tab.get('/slow')
      await slow.reached
      store.expireAll()
      slow.release()
      expect(await visit).toMatchObject(ok)
      expect(store.rows.size).toBe(0)
    },
    PROMPT_MS,
  )
})

describe('an operation of the app after a store has called back', () => {
  it("is not mistaken for the store's own call: destroy() is a logout", async () => {
    const site = await start({ store: new PrivateStore() })
    const tab = await loggedIn(site)
    const { grantId } = (await site.storedTokens(tab))!
    site.handle('/bye', (request) => {
      request.session.views = 7
      return new Promise<void>((resolve) => {
        request.session.save(() => request.session.destroy(() => resolve()))
      })
    })
    expect(await tab.get('/bye')).toMatchObject(ok)
    expect(site.mounted.manager.sessionGrants.newestOf({ grantId })).toBe('ended')
  })

  it(
    'nor is an operation of another request at the same time',
    async () => {
      const store = new MarksWhatItDestroys()
      const site = await start({ store })
      const tab = await loggedIn(site)
      const { grantId } = (await site.storedTokens(tab))!
      site.handle('/bye', destroyed)
      const write = held(site.store.hold('set'))
      site.handle('/count', (request) => {
        request.session.views = 7
      })
      const count = tab.get('/count')
      await write.reached
      const bye = tab.get('/bye')
      write.release()
      await Promise.all([count, bye])
      expect(site.mounted.manager.sessionGrants.newestOf({ grantId })).toBe('ended')
      expect(await site.storedTokens(tab)).toBeUndefined()
    },
    PROMPT_MS,
  )
})

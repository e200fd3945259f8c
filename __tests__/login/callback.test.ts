import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals'
import { type LoginSite, NAVIGATION, startLoginSite } from '../helpers/login-site.js'

const MINUTE_MS = 60_000

describe.each(['cookie', 'session'] as const)('a login that is under way, in a %s', (transactions) => {
  let site: LoginSite
  beforeAll(async () => {
    site = await startLoginSite({ login: { transactions } })
  })
  afterAll(() => site.close())
  afterEach(() => {
    site.failures.length = 0
    expect(site.errors.splice(0)).toEqual([])
    jest.useRealTimers()
  })

  it('leads through the provider and back to the page, with its query', async () => {
    const page = await site.open(site.browser(), '/orders?page=2')
    expect([page.url, page.json]).toEqual([
      `${site.url}/orders?page=2`,
      { user: 'alice', query: { page: '2' } },
    ])
  })

  it('S110 two tabs begin one after the other, and finish in another order: each ends at its page', async () => {
    const visitor = site.browser()
    const first = await site.begin(visitor, '/login?returnTo=/orders?tab=1')
    const second = await site.begin(visitor, '/login?returnTo=/orders?tab=2')
    expect((await site.step(visitor, second)).headers.get('location')).toBe('/orders?tab=2')
    expect((await site.step(visitor, first)).headers.get('location')).toBe('/orders?tab=1')
    expect((await visitor.get('/orders')).status).toBe(200)
  })

  it('S110 a callback that is used again leads a logged-in user to the page, and sends nothing', async () => {
    const visitor = site.browser()
    const callback = await site.begin(visitor)
    await site.step(visitor, callback)
    const before = site.provider.tokenRequests.length
    const again = await site.step(visitor, callback)
    expect([again.status, again.headers.get('location')]).toEqual([303, '/orders'])
    expect(site.provider.tokenRequests).toHaveLength(before)
  })

  it('S110 a callback that is used again without a login shows a page with a link, and no redirect', async () => {
    const visitor = site.browser()
    const callback = await site.begin(visitor)
    const copy = visitor.clone()
    await site.step(visitor, callback)
    const before = site.provider.tokenRequests.length
    const again = await site.step(copy, callback)
    expect([again.status, again.headers.get('location')]).toEqual([400, null])
    expect(again.text).toMatch(/<a href="\/login.*">Log in<\/a>/)
    expect(site.provider.tokenRequests).toHaveLength(before)
    // The session of before the login is gone.
    const [reason, why] =
      transactions === 'cookie'
        ? ['used', 'came twice with the same state.']
        : ['unknown', 'has the state of the callback.']
    expect(site.failures).toMatchObject([{ reason, message: expect.stringContaining(why) }])
  })

  it('S110 a callback in another browser, or from a bookmark, shows a page, and sends nothing', async () => {
    const callback = await site.begin(site.browser())
    const before = site.provider.tokenRequests.length
    for (const path of [callback, '/callback', '/callback?code=x&state=y']) {
      const page = await site.step(site.browser(), path)
      expect([path, page.status, page.headers.get('location')]).toEqual([path, 400, null])
      expect(page.text).toContain('This login was not begun here')
    }
    expect(site.provider.tokenRequests).toHaveLength(before)
  })

  it('S110 a callback without a transaction leads a logged-in user to the start page', async () => {
    const visitor = await site.loggedIn()
    const page = await site.step(visitor, '/callback?code=x&state=y')
    expect([page.status, page.headers.get('location')]).toEqual([303, '/'])
    expect((await visitor.get('/orders')).status).toBe(200)
  })

  it('S110 a login that took longer than 15 minutes shows a page that leads to the same page', async () => {
    const visitor = site.browser()
    const callback = await site.begin(visitor)
    jest.useFakeTimers({ now: Date.now() + 15 * MINUTE_MS + 1_000, doNotFake: FAKE_DATE_ALONE })
    const page = await site.step(visitor, callback)
    expect([page.status, page.headers.get('location')]).toEqual([400, null])
    expect(page.text).toContain('This login took too long')
    expect(page.text).toContain('href="/login?returnTo=%2Forders"')
    const message =
      'The login failed (expired). The callback came more than 15 minutes after the login had begun.'
    expect(site.failures).toMatchObject([{ reason: 'expired', message }])
  })

  it('gives way to the ninth of its browser', async () => {
    const visitor = site.browser()
    const callbacks: string[] = []
    for (let at = 0; at < 9; at++) {
      jest.useFakeTimers({ now: Date.now() + 10, doNotFake: FAKE_DATE_ALONE })
      callbacks.push(await site.begin(visitor, `/login?returnTo=/orders?tab=${at}`))
    }
    const first = await site.step(visitor, callbacks[0]!)
    expect([first.status, first.text]).toEqual([400, expect.stringContaining('not begun here')])
    const second = await site.step(visitor, callbacks[1]!)
    expect([second.status, second.headers.get('location')]).toEqual([303, '/orders?tab=1'])
  })

  it.each([
    ['access_denied', 403, 'The login was cancelled', 'denied'],
    ['login_required', 401, 'Please log in', 'login_required'],
    ['interaction_required', 401, 'Please log in', 'login_required'],
    ['temporarily_unavailable', 503, 'The login is not available', 'unavailable'],
    ['invalid_request', 502, 'The login failed', 'rejected'],
  ])('shows a page for the error response %s, and no redirect', async (error, status, title, reason) => {
    const visitor = site.browser()
    const callback = new URL(await site.begin(visitor))
    callback.searchParams.delete('code')
    callback.searchParams.set('error', error)
    callback.searchParams.set('error_description', '<script>alert(1)</script>')
    const page = await site.step(visitor, callback.href)
    expect([page.status, page.headers.get('location')]).toEqual([status, null])
    expect(page.text).toContain(`<h1>${title}</h1>`)
    expect(page.text).not.toContain('script')
    expect(page.headers.get('content-security-policy')).toContain("default-src 'none'")
    const message = expect.stringContaining(`The login failed (${reason}, ${error}). The `)
    expect(site.failures).toMatchObject([{ reason, error, message, returnTo: '/orders' }])
  })

  it('shows a page when the provider fails, at the callback and at the beginning', async () => {
    const visitor = site.browser()
    const callback = await site.begin(visitor)
    site.provider.failNext(503)
    const page = await site.step(visitor, callback)
    expect([page.status, page.headers.get('retry-after')]).toEqual([503, '5'])
    expect(page.text).toContain('Please try again in a moment')
    await site.provider.down()
    const other = await site.step(visitor, '/login')
    await site.provider.up()
    expect([other.status, site.failures.map(({ reason }) => reason)]).toEqual([
      503,
      ['unavailable', 'unavailable'],
    ])
    expect((await site.open(visitor, '/orders')).status).toBe(200)
  })

  it('is not begun by HEAD or POST', async () => {
    const visitor = site.browser()
    expect((await visitor.post('/login', undefined, NAVIGATION)).status).toBe(404)
    expect(visitor.cookie('connect.sid')).toBeUndefined()
  })
})

it('begins no session for a visitor when it is kept in a cookie', async () => {
  const site = await startLoginSite()
  try {
    const visitor = site.browser()
    await site.begin(visitor)
    expect(visitor.cookie('connect.sid')).toBeUndefined()
    expect(Object.keys((site.store as unknown as { sessions: object }).sessions)).toEqual([])
  } finally {
    await site.close()
  }
})

it('S110 two tabs of a visitor begin in the same moment: each ends at its page', async () => {
  const site = await startLoginSite()
  try {
    const visitor = site.browser()
    const tabs = ['/login?returnTo=/orders?tab=1', '/login?returnTo=/orders?tab=2']
    const begun = await Promise.all(tabs.map((path) => site.step(visitor, path)))
    const callbacks: string[] = []
    for (const { headers } of begun) callbacks.push(await site.begin(visitor, headers.get('location')!))
    const pages = await Promise.all(callbacks.map((callback) => site.step(visitor, callback)))
    expect(pages.map(({ headers }) => headers.get('location'))).toEqual(['/orders?tab=1', '/orders?tab=2'])
    expect((await visitor.get('/orders')).status).toBe(200)
  } finally {
    await site.close()
  }
})

describe('onFailure', () => {
  it('sends the user to a path of the app, and no further', async () => {
    const site = await startLoginSite({ login: { onFailure: () => '//evil.example/' } })
    try {
      const page = await site.step(site.browser(), '/callback')
      expect([page.status, page.headers.get('location')]).toEqual([303, '/'])
    } finally {
      await site.close()
    }
  })
})

describe('a provider that is down from the beginning', () => {
  it('shows a page, and works when it is back', async () => {
    const site = await startLoginSite()
    try {
      await site.provider.down()
      const page = await site.step(site.browser(), '/orders')
      const down = await site.step(site.browser(), page.headers.get('location')!)
      expect([down.status, site.failures[0]?.reason]).toEqual([503, 'unavailable'])
      await site.provider.up()
      expect((await site.open(site.browser(), '/orders')).json).toMatchObject({ user: 'alice' })
    } finally {
      await site.close()
    }
  })
})

/** The servers of a test need their timers. */
const FAKE_DATE_ALONE = [
  ...(['hrtime', 'nextTick', 'performance', 'queueMicrotask', 'requestAnimationFrame'] as const),
  ...(['cancelAnimationFrame', 'requestIdleCallback', 'cancelIdleCallback', 'setImmediate'] as const),
  ...(['clearImmediate', 'setInterval', 'clearInterval', 'setTimeout', 'clearTimeout'] as const),
]

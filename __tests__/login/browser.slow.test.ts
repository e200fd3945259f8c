import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, jest } from '@jest/globals'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { StepUpError } from '../../lib/index.js'
import { hasChromium, inChromium, launchChromium } from '../helpers/chromium.js'
import { type LoginSite, type LoginSiteOptions, startLoginSite } from '../helpers/login-site.js'

const TIMEOUT_MS = 60_000

let chromium: Browser
let context: BrowserContext
let page: Page
let site: LoginSite
/** How many logins an API has required. */
let required: number

beforeAll(async () => {
  if (hasChromium) chromium = await launchChromium()
}, TIMEOUT_MS)
afterAll(() => chromium?.close())
beforeEach(async () => {
  if (!hasChromium) return
  required = 0
  context = await chromium.newContext()
  page = await context.newPage()
})
afterEach(async () => {
  jest.useRealTimers()
  await context?.close()
  await site?.close()
})

describe.each<[string, LoginSiteOptions['login']]>([
  ['query', {}],
  ['form_post', { responseMode: 'form_post' }],
])('login() in Chromium, with responseMode %s', (_, login) => {
  beforeEach(async () => {
    if (!hasChromium) return
    // Another host than the provider's, so that it is another site for the browser.
    site = await startLoginSite({ login: login!, host: 'localhost', provider: { pages: true }, routes })
  })

  inChromium(
    'S110 ends each of two tabs at its page',
    async () => {
      await page.goto(`${site.url}/orders`)
      await proceed(page)
      await context.clearCookies({ name: 'connect.sid' })
      const other = await context.newPage()
      await Promise.all([page.goto(`${site.url}/orders?tab=1`), other.goto(`${site.url}/orders?tab=2`)])
      await proceed(other)
      await proceed(page)
      expect([page.url(), other.url()]).toEqual([`${site.url}/orders?tab=1`, `${site.url}/orders?tab=2`])
      expect([await shown(page), await shown(other)]).toEqual([{ tab: '1' }, { tab: '2' }])
    },
    TIMEOUT_MS,
  )

  inChromium(
    'S110 has an answer to the back button, and to a callback from the history',
    async () => {
      const callbacks: string[] = []
      page.on('request', (request) => {
        if (new URL(request.url()).pathname === '/callback') callbacks.push(request.url())
      })
      await page.goto(`${site.url}/`)
      await page.goto(`${site.url}/orders?page=3`)
      await proceed(page)
      await page.goBack()
      await page.goForward()
      expect(await shown(page)).toEqual({ page: '3' })
      await page.goto(callbacks[0]!)
      expect(new URL(page.url()).pathname).toBe(login?.responseMode ? '/' : '/orders')
    },
    TIMEOUT_MS,
  )

  inChromium(
    'S110 tells the user that a login took too long, and leads on to the page',
    async () => {
      await page.goto(`${site.url}/orders?page=4`)
      const late = jest.now() + 16 * 60_000
      // The time passes when the provider has sent its response.
      site.provider.provider.once('authorization.success', () => {
        jest.useFakeTimers({ now: late, doNotFake: ALL_BUT_DATE })
      })
      await proceed(page)
      await page.getByRole('heading', { name: 'This login took too long' }).waitFor()
      jest.useRealTimers()
      await page.getByRole('link', { name: 'Log in' }).click()
      await proceed(page)
      expect(page.url()).toBe(`${site.url}/orders?page=4`)
    },
    TIMEOUT_MS,
  )

  inChromium(
    'S112 leads through a step-up and back to the page',
    async () => {
      await page.goto(`${site.url}/secret?a=1`)
      // The first login leads to the page, and the page to the second one.
      await proceed(page)
      expect([page.url(), required]).toEqual([`${site.url}/secret?a=1`, 1])
      expect(await page.textContent('body')).toContain('secret')
    },
    TIMEOUT_MS,
  )

  inChromium(
    'logs out in one tab: the other one is logged out, and the browser is at the logout of the provider',
    async () => {
      await page.goto(`${site.url}/orders`)
      await proceed(page)
      const other = await context.newPage()
      await other.goto(`${site.url}/form`)
      await other.getByRole('button', { name: 'Log out' }).click()
      await other.waitForURL((url) => url.href.startsWith(`${site.provider.issuer}/session/end`))
      await page.goto(`${site.url}/`)
      expect(JSON.parse((await page.textContent('body'))!)).toEqual({ loggedIn: false })
    },
    TIMEOUT_MS,
  )

  inChromium(
    'shows a page while the provider is down, and works when it is back',
    async () => {
      await site.provider.down()
      await page.goto(`${site.url}/orders?page=5`)
      await page.getByRole('heading', { name: 'The login is not available' }).waitFor()
      await site.provider.up()
      await page.getByRole('link', { name: 'Log in' }).click()
      await proceed(page)
      expect(page.url()).toBe(`${site.url}/orders?page=5`)
    },
    TIMEOUT_MS,
  )

  inChromium(
    'S111 cannot be made to log the user out, or in as another, by a page of another site',
    async () => {
      await page.goto(`${site.url}/orders`)
      await proceed(page)
      const theirs = await context.newPage()
      await theirs.goto(`${site.provider.issuer}/.well-known/openid-configuration`)
      await theirs.setContent(`<form method="post" action="${site.url}/logout"><button>Win</button></form>`)
      await theirs.getByRole('button').click()
      await theirs.getByText('cross_origin_request').waitFor()
      const callback = await site.begin(site.browser()).catch(() => `${site.url}/callback?code=a&state=b`)
      await theirs.goto(callback)
      await page.goto(`${site.url}/orders`)
      expect(await shown(page)).toEqual({})
      expect(await page.evaluate(() => document.cookie)).toBe('')
    },
    TIMEOUT_MS,
  )
})

const routes: NonNullable<LoginSiteOptions['routes']> = (app) => {
  app.get('/form', (_request, response) => {
    response.send('<form method="post" action="/logout"><button>Log out</button></form>')
  })
  app.get('/secret', (request, response, next) => {
    if (!request.tokens.hasTokens()) return response.redirect('/login?returnTo=/secret?a=1')
    if (required++ === 0) return next(new StepUpError({ maxAge: 0 }))
    required--
    response.send('secret')
  })
}

/** Presses the buttons of the provider's pages until the app is reached. */
async function proceed(tab: Page): Promise<void> {
  await tab.waitForURL((url) => url.pathname.startsWith('/interaction/'))
  while (new URL(tab.url()).pathname.startsWith('/interaction/')) {
    const before = tab.url()
    await tab.getByRole('button', { name: 'Continue' }).click()
    await tab.waitForURL(
      (url) =>
        (url.href !== before && !/^\/(auth|callback)/.test(url.pathname)) || url.pathname === '/callback',
    )
  }
  await tab.waitForLoadState()
}

async function shown(tab: Page): Promise<unknown> {
  const { query, user } = JSON.parse((await tab.textContent('body'))!)
  expect(user).toBe('alice')
  return query
}

/** The servers and the browser need their timers. */
const ALL_BUT_DATE = [
  ...(['hrtime', 'nextTick', 'performance', 'queueMicrotask', 'requestAnimationFrame'] as const),
  ...(['cancelAnimationFrame', 'requestIdleCallback', 'cancelIdleCallback', 'setImmediate'] as const),
  ...(['clearImmediate', 'setInterval', 'clearInterval', 'setTimeout', 'clearTimeout'] as const),
]

import { afterAll, beforeAll, describe, expect } from '@jest/globals'
import type { Browser, Page } from 'playwright-core'
import { type Demo, startDemo } from '../../examples/demo/demo.js'
import { fingerprint, isRefresh } from '../../examples/demo/timeline.js'
import { hasChromium, inChromium, launchChromium } from '../helpers/chromium.js'

const TIMEOUT_MS = 40_000

interface TokenAnswer {
  access_token: string
  refresh_token: string
  id_token: string
}

let demo: Demo
let browser: Browser
let page: Page
/** What the authorization server answered: at login, and at the refresh. */
const issued: TokenAnswer[] = []
/** Everything that went over the wire between the browser and any server, and what the page held. */
const seen: string[] = []
const pending: Promise<void>[] = []
const complaints: string[] = []
const violations: string[] = []

beforeAll(async () => {
  if (!hasChromium) return
  demo = await startDemo({ port: 0, accessTokenSeconds: 4 })
  demo.provider.on('grant.success', ({ body }) => void issued.push(body as TokenAnswer))
  browser = await launchChromium()
  page = await browser.newPage()
  await overhear(page)
}, TIMEOUT_MS)

afterAll(async () => {
  await browser?.close()
  await demo?.close()
})

describe('the page of the demo', () => {
  inChromium(
    'logs in, calls, lets the token expire, calls 50 times with one refresh, and logs out',
    async () => {
      await page.goto(demo.url)
      await page.getByRole('link', { name: 'Log in' }).click()
      await page.getByRole('button', { name: 'Continue as demo user' }).click()
      await page.getByText('You are logged in.').waitFor()
      await lookAround()

      await page.getByRole('button', { name: 'Call the API' }).click()
      await page.getByText('1 call answered.', { exact: true }).waitFor()
      await page.getByText('Espresso machine').waitFor()

      await page.getByRole('button', { name: 'Let the token expire' }).click()
      await page.getByText('It has expired.').waitFor()
      expect(await page.locator('#left').textContent()).toBe('expired')
      expect(demo.timeline.rows.filter(isRefresh)).toHaveLength(0)

      await page.getByRole('button', { name: 'Call it 50 times at once' }).click()
      await page.getByText('50 of 50 calls answered').waitFor()
      await page.getByText('50 calls answered, 1 refresh', { exact: true }).waitFor()
      expect(await page.locator('#refreshes').textContent()).toBe('1')
      expect(await page.locator('#answered').textContent()).toBe('51')
      expect(demo.timeline.rows.filter(isRefresh)).toHaveLength(1)
      expect(await marks()).toEqual([
        ['calls', 50, 0],
        ['refreshes', 1, 0],
      ])
      await lookAround()

      await page.getByRole('button', { name: 'Log out' }).click()
      await page.getByText('Logged out, and the refresh token is revoked.').waitFor()
      await page.getByText('revocation → 200').waitFor()
      await page.getByRole('link', { name: 'Log in' }).waitFor()
      const names = (await page.context().cookies()).map(({ name }) => name)
      expect(names).not.toContain('demo.sid')
      await lookAround()
    },
    TIMEOUT_MS,
  )

  inChromium('never gets to see a token', async () => {
    await Promise.all(pending)
    const all = seen.join('\n')
    // What was overheard has answers of the API, cookies, and the events of the time line.
    expect(all).toContain('Espresso machine')
    expect(all).toMatch(/^cookie: .*demo\.sid=/m)
    expect(issued).toHaveLength(2)
    for (const { access_token, refresh_token } of issued) {
      expect(all).toContain(`"accessToken":"${fingerprint(access_token)}"`)
      expect(all).toContain(`"refreshToken":"${fingerprint(refresh_token)}"`)
    }
    const tokens = issued.flatMap((it) => [it.access_token, it.refresh_token, it.id_token])
    expect([...tokens, demo.client.secret].filter((secret) => shows(all, secret))).toEqual([])
    expect(all).not.toMatch(/eyJ[\w-]+\.[\w-]+\.[\w-]+/)
  })

  inChromium('marks the next step, and shows no rows of another session', async () => {
    const other = await (await browser.newContext()).newPage()
    await other.goto(demo.url)
    await other.getByText('Nothing yet.').waitFor()
    expect(await nextStep(other)).toEqual(['log-in'])
    await logIn(other)
    await other.getByText('authorization_code → 200').waitFor()
    expect(await nextStep(other)).toEqual(['call'])
    expect(await other.locator('#rows li').count()).toBe(1)
    await other.context().close()
  })

  inChromium('has a session cookie that no script can read', () => {
    const cookies = seen.flatMap((text) => text.match(/^set-cookie: demo\.sid=[^;].*$/gim) ?? [])
    expect(cookies.length).toBeGreaterThan(0)
    for (const cookie of cookies) expect(cookie).toMatch(/; HttpOnly; SameSite=Lax$/)
  })

  inChromium('causes no complaint in the console, and runs no script but its own', async () => {
    expect(complaints).toEqual([])
    expect(violations).toEqual([])
    await page.evaluate(() => {
      const script = document.createElement('script')
      script.textContent = 'document.title = "foreign"'
      document.body.append(script)
    })
    expect(await page.title()).not.toBe('foreign')
    expect(complaints).toHaveLength(1)
    expect(violations).toEqual(['script-src-elem'])
  })
})

describe('the page of the demo, without the library', () => {
  inChromium(
    'calls 50 times at once with 50 refreshes, and the user is logged out',
    async () => {
      // All calls have read the session before the first refresh has a response.
      const demo = await startDemo({ port: 0, accessTokenSeconds: 4, latencyMs: 1_000 })
      const page = await (await browser.newContext()).newPage()
      await page.goto(demo.url)
      await page.getByRole('link', { name: 'Without this library' }).click()
      await logIn(page)
      await page.getByRole('button', { name: 'Let the token expire' }).click()
      await page.getByText('It has expired.').waitFor()
      await page.getByRole('button', { name: 'Call it 50 times at once' }).click()
      await page.getByText(/^1 of 50 calls answered/).waitFor()
      await page.getByText('49 × refresh_token → invalid_grant').waitFor()
      await page.getByRole('link', { name: 'Log in' }).waitFor()
      expect(await marks(page)).toEqual([
        ['calls', 1, 49],
        ['refreshes', 1, 49],
      ])
      await page.context().close()
      await demo.close()
    },
    TIMEOUT_MS,
  )
})

async function logIn(page: Page): Promise<void> {
  await page.getByRole('link', { name: 'Log in' }).click()
  await page.getByRole('button', { name: 'Continue as demo user' }).click()
  await page.getByText('You are logged in.').waitFor()
}

function nextStep(page: Page): Promise<string[]> {
  return page.locator('.steps .next').evaluateAll((steps) => steps.map(({ id }) => id))
}

/** How many marks are good, and how many are bad. */
async function marks(tab = page): Promise<[string, number, number][]> {
  const count = async (name: string, id: string): Promise<[string, number, number]> => {
    const counted = (look: string) => tab.locator(`#${id} .${look}`).count()
    return [name, await counted('good'), await counted('bad')]
  }
  return [await count('calls', 'call-marks'), await count('refreshes', 'refresh-marks')]
}

/** Listens to everything that goes over the wire between the page and any server, and to its complaints. */
async function overhear(page: Page): Promise<void> {
  page.on('request', (request) => {
    keep(async () => [
      request.method(),
      request.url(),
      lines(await request.headersArray()),
      request.postData(),
    ])
  })
  page.on('response', (response) =>
    keep(async () => {
      const headers = await response.headersArray()
      // A redirect has no body that the browser reads, and a stream of events has no end.
      const events = headers.some(({ value }) => value.startsWith('text/event-stream'))
      const body = events || response.status() >= 300 ? '' : await response.text()
      return [response.url(), lines(headers), body]
    }),
  )
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text())
  })
  page.on('pageerror', (error) => complaints.push(String(error)))
  const session = await page.context().newCDPSession(page)
  await session.send('Network.enable')
  session.on('Network.eventSourceMessageReceived', ({ data }) => seen.push(data))
  await page.exposeFunction('reportViolation', (directive: string) => violations.push(directive))
  await page.addInitScript(() => {
    const { reportViolation } = globalThis as unknown as { reportViolation(directive: string): void }
    document.addEventListener('securitypolicyviolation', (event) => reportViolation(event.effectiveDirective))
  })
}

function keep(overheard: () => Promise<readonly unknown[]>): void {
  pending.push(overheard().then((parts) => void seen.push(parts.join('\n'))))
}

function lines(headers: readonly { name: string; value: string }[]): string {
  return headers.map(({ name, value }) => `${name.toLowerCase()}: ${value}`).join('\n')
}

/** Keeps what the page holds by now: its elements, its storage and the cookies that its scripts can read. */
async function lookAround(): Promise<void> {
  const held = await page.evaluate(() => [
    document.documentElement.outerHTML,
    JSON.stringify({ ...localStorage }),
    JSON.stringify({ ...sessionStorage }),
    document.cookie,
    JSON.stringify(history.state),
  ])
  seen.push(held.join('\n'))
}

function shows(text: string, secret: string): boolean {
  return [secret, encodeURIComponent(secret), btoa(secret)].some((form) => text.includes(form))
}

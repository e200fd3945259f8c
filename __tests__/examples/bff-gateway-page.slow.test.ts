import { setTimeout as after } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect } from '@jest/globals'
import { decodeJwt } from 'jose'
import type { Browser, BrowserContext, Locator, Page } from 'playwright-core'
import { type Started, start } from '../../examples/bff-gateway/start.js'
import { fingerprint } from '../../examples/demo/timeline.js'
import { hasChromium, inChromium, launchChromium } from '../helpers/chromium.js'
import { type HttpServer, send, serve } from '../helpers/http-server.js'
import { type Overheard, type Wiretap, wiretap } from '../helpers/wiretap.js'

const TIMEOUT_MS = 40_000

/** A token endpoint's answer, and what it was asked. */
interface Issued {
  readonly grantType: string
  readonly resource?: string
  readonly access_token: string
  readonly refresh_token: string
  readonly id_token?: string
}

/** Between the browser and the gateway, where TLS ends in production. It hears everything that passes. */
let tap: Wiretap
let site: Started
/** A site of somebody else's on another port of the same host: browsers send the gateway's cookies along from there. */
let neighbour: { readonly server: HttpServer; readonly tls: Wiretap }
let browser: Browser
let context: BrowserContext
let page: Page
const issued: Issued[] = []
/** What passed between the browser and other servers, and what the browser held at times. */
const seen: string[] = []
const pending: Promise<unknown>[] = []
const complaints: string[] = []

beforeAll(async () => {
  if (!hasChromium) return
  tap = await wiretap()
  site = await start({ port: 0, url: tap.url, accessTokenSeconds: 3, newsEveryMs: 100, freshLoginSeconds: 1 })
  tap.leadTo(site.origin)
  site.provider.on('grant.success', ({ body, oidc }) => {
    const { grant_type, resource } = oidc.params ?? {}
    issued.push({ grantType: grant_type, resource, ...(body as object) } as Issued)
  })
  neighbour = { server: await serve(() => somebodyElse), tls: await wiretap() }
  neighbour.tls.leadTo(neighbour.server.url)
  browser = await launchChromium()
  context = await browser.newContext({ ignoreHTTPSErrors: true })
  page = await newTab()
}, TIMEOUT_MS)

afterAll(async () => {
  await browser?.close()
  await site?.close()
  await Promise.all([tap?.close(), neighbour?.tls.close(), neighbour?.server.down()])
})

describe('the page of the gateway', () => {
  inChromium(
    'S72 has one panel for everybody, and for the user three under three policies',
    async () => {
      await page.goto(tap.url)
      await panel('catalogue').getByText('Espresso machine').waitFor()
      await panel('orders').getByText('Log in to see them.').waitFor()

      await page.getByRole('link', { name: 'Log in', exact: true }).click()
      await proceed(page)
      await isComplete(page)
      expect(page.url()).toBe(`${tap.url}/`)
      expect(await shown('catalogue').textContent()).toBe('The API saw no token.')
      expect(await shown('orders').textContent()).toMatch(
        / token [0-9a-f]{6} for orders\.read orders\.write,/,
      )
      expect(await shown('billing').textContent()).toMatch(/ token [0-9a-f]{6} for billing\.read,/)
      expect(refreshes()).toEqual([site.billingApi])
    },
    TIMEOUT_MS,
  )

  inChromium(
    'S73 has news through the proxy past the expiry of the token that the API was shown',
    async () => {
      const already = issued.length
      // This comes with an event of the stream, that is, after the expiry.
      await page.getByText(/Its token expired \d+ s ago\./).waitFor()
      await shown('orders').getByText('expired by now').waitFor()
      expect(streams()).toMatchObject([{ status: 200, ended: false }])
      expect(issued).toHaveLength(already)
    },
    TIMEOUT_MS,
  )

  inChromium(
    'is used, and opened in another tab, at once after the expiry: one refresh for each API, and nobody notices',
    async () => {
      const other = await newTab()
      const before = [await token('orders').textContent(), await token('billing').textContent()]
      await expired()
      const already = refreshes().length
      const buttons = ['#orders .again', '#billing .again', '#order']
      await Promise.all([page.evaluate(pressed, buttons), other.goto(tap.url)])
      await token('orders').filter({ hasNotText: before[0]! }).waitFor()
      await token('billing').filter({ hasNotText: before[1]! }).waitFor()
      await page.getByText('Ordered: Milk jug.').waitFor()
      await shown('billing').getByText(`Refreshed: it was ${before[1]} before.`).waitFor()
      await isComplete(other)
      expect(refreshes().slice(already).sort()).toEqual([site.shopApi, site.billingApi].sort())
      expect(streams()).toMatchObject([{ ended: false }, { ended: false }])
      await other.close()
    },
    TIMEOUT_MS,
  )

  inChromium(
    'offers a login where an API asks for a recent one, and goes on without',
    async () => {
      await page.getByRole('button', { name: 'Cancel order 1001' }).click()
      const again = page.locator('#notice').getByRole('link', { name: 'Log in again' })
      expect(await again.getAttribute('href')).toBe('/login?returnTo=%2F&max_age=1')
      await page.getByText('demo user', { exact: true }).waitFor()
    },
    TIMEOUT_MS,
  )

  inChromium(
    'is the only one that may change something at the gateway',
    async () => {
      const order = { url: `${tap.url}/api/orders`, headers: {} }
      expect(await page.evaluate(posted, order)).toBe('201')

      const theirs = await newTab()
      await theirs.goto(neighbour.tls.url)
      expect(await theirs.evaluate(posted, order)).toBe('TypeError')
      const [sent] = tap.overheard.slice(-1)
      // It came with the session: that the cookie is SameSite does not help here.
      expect(sent).toMatchObject({ method: 'POST', status: 403 })
      expect(sent?.request).toMatch(/^cookie: __Host-gateway=/im)
      expect(sent?.request).toMatch(/^sec-fetch-site: same-site$/im)
      // With a header of its own the browser asks first whether it may be sent, and is not told that it may.
      expect(await theirs.evaluate(posted, { ...order, headers: { 'X-Mine': '1' } })).toBe('TypeError')
      expect(tap.overheard.at(-1)).toMatchObject({ method: 'OPTIONS', status: 401 })
      await theirs.close()
    },
    TIMEOUT_MS,
  )

  inChromium(
    'logs out in one tab: the others are logged out, streams end, and the refresh token is revoked',
    async () => {
      await lookInside(page)
      const other = await newTab()
      await other.goto(`${tap.url}/orders`)
      await other.getByText('Two cups').first().waitFor()
      await other.getByRole('button', { name: 'Log out' }).click()
      await other.getByText('You are logged out.').waitFor()
      await page.getByText('You have logged out in another tab.').waitFor()
      await panel('billing').getByText('Log in to see them.').waitFor()

      const answer = await page.evaluate(asked, '/api/orders')
      expect(answer).toEqual([401, 'application/problem+json', expect.stringContaining('"status":401')])
      await until(() => streams().every(({ ended }) => ended))
      expect(await presented(issued.at(-1)!.refresh_token)).toEqual([400, 'invalid_grant'])
      const cookies = await context.cookies(tap.url)
      expect(cookies).toEqual([])
      await other.close()
    },
    TIMEOUT_MS,
  )

  inChromium(
    'S74 sends who follows a link to the login, and back to where it leads',
    async () => {
      await page.goto(`${tap.url}/billing`)
      await proceed(page)
      await panel('billing').getByText('2026-017').waitFor()
      expect(page.url()).toBe(`${tap.url}/billing`)
      expect(await panel('catalogue').isHidden()).toBe(true)
      await page.getByText('demo user', { exact: true }).waitFor()
    },
    TIMEOUT_MS,
  )

  inChromium.each(['//evil.example/', '/%5Cevil.example/', '/%09/evil.example/'])(
    'stays here after a login to which a link with returnTo=%s has led',
    async (forged) => {
      await page.goto(`${tap.url}/login?returnTo=${forged}`)
      await proceed(page)
      await page.waitForURL((url) => url.origin !== site.provider.issuer)
      expect(new URL(page.url()).origin).toBe(tap.url)
      await page.getByText('demo user', { exact: true }).waitFor()
    },
    TIMEOUT_MS,
  )

  inChromium(
    'never gets to see a token, wherever it might be',
    async () => {
      await isComplete(page)
      await lookInside(page)
      await Promise.all(pending)
      const everything = [tap.everything(), ...seen].join('\n')
      // What was overheard and looked at is what it should be, and a token in it would be found.
      const expected = [
        /Espresso machine/,
        /^cookie: __Host-gateway=/im,
        /^data: \{"id":1001,.*"fingerprint"/m,
      ]
      const all = [
        ...expected,
        /^location: .*\/callback\?code=/im,
        new RegExp(fingerprint(issued[0]!.access_token)),
      ]
      expect(all.filter((pattern) => !pattern.test(everything))).toEqual([])
      expect(/^content-encoding:/im.test(everything)).toBe(false)
      const secrets = issued.flatMap((it) => [it.access_token, it.refresh_token, it.id_token ?? []].flat())
      expect(secrets.length).toBeGreaterThan(12)
      expect(secrets.every((secret) => shows(`… ${secret} …`, secret))).toBe(true)

      expect([...secrets, site.clientSecret].filter((secret) => shows(everything, secret))).toEqual([])
      expect(everything.match(/eyJ[\w-]+\.eyJ.{0,40}/g)).toBeNull()
    },
    TIMEOUT_MS,
  )

  inChromium('has a session cookie of this host alone, over TLS alone, that no script reads', async () => {
    const cookies = await context.cookies(tap.url)
    const flags = { path: '/', domain: 'localhost', httpOnly: true, secure: true, sameSite: 'Lax' }
    expect(cookies).toEqual([expect.objectContaining({ name: '__Host-gateway', ...flags })])
    expect(await page.evaluate(() => document.cookie)).toBe('')
  })

  inChromium('keeps to its Content-Security-Policy, under which nobody can add a script', async () => {
    expect(complaints).toEqual([])
    const outcome = await page.evaluate(() => {
      try {
        document.createElement('script').src = '/assets/app.js'
        return 'added'
      } catch (error) {
        return (error as Error).name
      }
    })
    expect(outcome).toBe('TypeError')
    await until(() => complaints.length > 0)
    expect(complaints).toEqual(['require-trusted-types-for'])
  })
})

// The page

function panel(name: string, tab = page): Locator {
  return tab.locator(`#${name}`)
}

/** What the API behind a panel was shown. */
function shown(name: string): Locator {
  return panel(name).locator('.shown')
}

/** The fingerprint of the token that the API behind a panel saw. */
function token(name: string): Locator {
  return shown(name).locator('code').first()
}

async function isComplete(tab: Page): Promise<void> {
  await panel('catalogue', tab).getByText('Espresso machine').waitFor()
  await panel('orders', tab).getByText('Two cups').first().waitFor()
  await panel('billing', tab).getByText('2026-017').waitFor()
  await tab.getByText(/^The stream is open/).waitFor()
}

/** Logs in at the authorization server, where the tab is by now. */
async function proceed(tab: Page): Promise<void> {
  await tab.getByRole('button', { name: 'Continue as demo user' }).click()
}

/** Runs in a page. Resolves with the status, or with the name of the error that is all that a script gets. */
async function posted({ url, headers }: { url: string; headers: Record<string, string> }): Promise<string> {
  const post = { method: 'POST', credentials: 'include', headers } as const
  return fetch(url, post).then(
    ({ status }) => String(status),
    ({ name }) => name,
  )
}

/** Runs in a page: buttons are pressed at once. */
function pressed(buttons: readonly string[]): void {
  for (const button of buttons) document.querySelector<HTMLButtonElement>(button)?.click()
}

/** Runs in a page. */
async function asked(path: string): Promise<[number, string | null, string]> {
  const answer = await fetch(path)
  return [answer.status, answer.headers.get('content-type'), await answer.text()]
}

// The servers

function somebodyElse(_: unknown, response: Parameters<typeof send>[0]): void {
  send(response, { status: 200, headers: { 'content-type': 'text/html' }, body: '<!doctype html>' })
}

/** What the refreshes so far were for, in their order. */
function refreshes(): string[] {
  const refreshed = issued.filter(({ grantType }) => grantType === 'refresh_token')
  return refreshed.map(({ resource = site.shopApi }) => resource)
}

function streams(): Overheard[] {
  return tap.overheard.filter(({ path }) => path === '/api/orders/news')
}

/** Waits until every access token has expired: a browser has no clock that a test could set. */
async function expired(): Promise<void> {
  const at = Math.max(...issued.map(({ access_token }) => decodeJwt(access_token).exp! * 1000))
  await after(at - Date.now())
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 5_000
  while (!holds() && performance.now() < deadline) await after(10)
  expect(holds()).toBe(true)
}

/** Presents a refresh token at the token endpoint, as the gateway does. */
async function presented(refreshToken: string): Promise<[number, string]> {
  const answer = await fetch(`${site.provider.issuer}/token`, {
    method: 'POST',
    headers: { Authorization: `Basic ${btoa(`gateway:${encodeURIComponent(site.clientSecret)}`)}` },
    body: new URLSearchParams({ grant_type: 'refresh_token', refresh_token: refreshToken }),
  })
  return [answer.status, (await answer.json()).error]
}

// What could hold a token

async function newTab(): Promise<Page> {
  const tab = await context.newPage()
  tab.on('response', (response) => void pending.push(overhear(response).then((text) => seen.push(text))))
  tab.on('pageerror', (error) => complaints.push(String(error)))
  await tab.exposeFunction('reportViolation', (directive: string) => complaints.push(directive))
  await tab.addInitScript(() => {
    const { reportViolation } = globalThis as unknown as { reportViolation(directive: string): void }
    document.addEventListener('securitypolicyviolation', (event) => reportViolation(event.effectiveDirective))
  })
  return tab
}

/** What a server other than the gateway was sent, and answered: the tap hears the gateway. */
async function overhear(response: Awaited<ReturnType<Page['waitForResponse']>>): Promise<string> {
  const request = response.request()
  if (new URL(response.url()).origin === tap.url) return response.url()
  const headers = [...(await request.headersArray()), ...(await response.headersArray())]
  const body = response.status() < 300 ? await response.text().catch(() => '') : ''
  return [
    request.url(),
    request.postData(),
    ...headers.map(({ name, value }) => `${name}: ${value}`),
    body,
  ].join('\n')
}

/** Keeps all that a tab holds by now: elements, storage, cookies, history, and the whole heap of its scripts. */
async function lookInside(tab: Page): Promise<void> {
  const inside = await tab.evaluate(async () => ({
    html: document.documentElement.outerHTML,
    state: history.state,
    stores: [localStorage.length, sessionStorage.length, await indexedDB.databases(), await caches.keys()],
  }))
  expect(inside.stores).toEqual([0, 0, [], []])
  const devtools = await context.newCDPSession(tab)
  const heap: string[] = []
  devtools.on('HeapProfiler.addHeapSnapshotChunk', ({ chunk }) => heap.push(chunk))
  await devtools.send('HeapProfiler.takeHeapSnapshot', { reportProgress: false })
  // A variable of the page's script is in it.
  const strings = heap.join('').split('"strings":[').at(-1) ?? ''
  expect(strings.includes('demo user')).toBe(true)
  const { entries } = await devtools.send('Page.getNavigationHistory')
  const cookies = await context.cookies()
  seen.push(inside.html, JSON.stringify([inside.state, entries, cookies]), strings)
  await devtools.detach()
}

/** Whether a text has a secret in it, as it is, in a form or in Base64; of a JWT its payload or its signature will do. */
function shows(text: string, secret: string): boolean {
  const [, ...parts] = secret.split('.')
  // The heap's snapshot cuts long strings off.
  const pieces = parts.length > 0 ? parts.map((part) => part.slice(0, 80)) : [secret]
  const forms = pieces.flatMap((piece) => [piece, encodeURIComponent(piece), btoa(piece)])
  return [...new Set(forms)].some((form) => text.includes(form))
}

import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as after } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type Browser, browser } from '../helpers/browser.js'
import { rawRequest } from '../helpers/raw-request.js'
import { killCommands, printedBy, run } from './commands.js'

const TIMEOUT_MS = 50_000
const LIFETIME_SECONDS = 4
// On the sources: another test may be building the package.
const ON_SOURCES = { TSX_TSCONFIG_PATH: '__tests__/tsconfig.json' }
const ON_OWN_STAGE = {
  ...ON_SOURCES,
  ISSUER: undefined,
  PORT: '0',
  ACCESS_TOKEN_SECONDS: `${LIFETIME_SECONDS}`,
}
/** What a browser says that shows a page; `fetch` always says that it does not. */
const FOR_A_PAGE = { 'sec-fetch-mode': 'navigate' }
const ORDERS = [1001, 1002, 1003]

/** A recipe that runs, on the authorization server that it brings. */
interface Recipe {
  readonly url: string
  /** What its authorization server has been asked for tokens, and has answered. */
  readonly asked: string[]
}

const recipes: [name: string, file: string, env?: NodeJS.ProcessEnv][] = [
  ['passport', 'passport.ts'],
  ['openid-client', 'openid-client.ts'],
  ['Koa, sessions in a store', 'koa.ts'],
  ['Koa, sessions in cookies', 'koa.ts', { SESSIONS: 'cookies' }],
  ['adopt', 'adopt.ts'],
  ['DPoP', 'dpop.ts'],
]
/** Further recipes, whose authorization server is asked for other tokens. */
const others: typeof recipes = [
  ['token exchange', 'token-exchange.ts'],
  // No test waits until this token expires.
  ["the client's own token", 'client-credentials.ts', { ACCESS_TOKEN_SECONDS: '60' }],
]
const running = new Map<string, Recipe>()

// All at once: they wait for the same tokens to expire.
beforeAll(async () => {
  const started = [...recipes, ...others].map(async ([name, file, env]) =>
    running.set(name, await start(file, env)),
  )
  await Promise.all(started)
}, TIMEOUT_MS)
afterAll(killCommands)

/** What was printed since, at least so many lines: it comes from another process, and may be slower than an answer. */
async function nextAsked(asked: string[], atLeast = 1): Promise<string[]> {
  const deadline = performance.now() + 5_000
  while (asked.length < atLeast && performance.now() < deadline) await after(10)
  return asked.splice(0)
}

describe('the recipe of', () => {
  it.concurrent.each(recipes)(
    '%s: a login in a new session, one refresh for all who ask at once, and a logout for good',
    async (name) => {
      const { url, asked } = running.get(name)!
      const visitor = browser(url)
      const { headers } = await rawRequest(url, '/orders', FOR_A_PAGE)
      expect(headers.location).toBe('/login?returnTo=%2Forders')

      const { page, before } = await logIn(visitor, headers.location ?? '')
      expect(page.url).toBe(`${url}/orders`)
      expect(idsIn(page.json.orders)).toEqual(ORDERS)
      expect(await nextAsked(asked)).toEqual(['authorization_code → 200'])
      expect((await before.get('/orders')).status).toBe(401)

      // It is another process: there is no clock to set.
      await after(LIFETIME_SECONDS * 1000)
      const pages = await Promise.all(Array.from({ length: 20 }, () => visitor.get('/orders')))
      expect(pages.map(({ status }) => status)).toEqual(pages.map(() => 200))
      expect(await nextAsked(asked)).toEqual(['refresh_token → 200'])

      const copy = visitor.clone()
      const start = await visitor.post('/logout')
      expect([start.status, start.headers.get('location')]).toEqual([302, '/'])
      expect(await nextAsked(asked)).toEqual(['revocation → 200'])
      for (const browser of [visitor, copy]) expect((await browser.get('/orders')).status).toBe(401)
      expect(asked).toEqual([])
    },
    TIMEOUT_MS,
  )
})

describe('the recipe of', () => {
  const EXCHANGED = 'urn:ietf:params:oauth:grant-type:token-exchange → 200'

  it.concurrent(
    'token exchange: one exchange after the login, and one refresh and one exchange for all who ask at once',
    async () => {
      const { url, asked } = running.get('token exchange')!
      const visitor = browser(url)
      const { page } = await logIn(visitor, '/login?returnTo=%2Forders')
      expect(idsIn(page.json.orders)).toEqual(ORDERS)
      expect(await nextAsked(asked, 2)).toEqual(['authorization_code → 200', EXCHANGED])

      // It is another process: there is no clock to set.
      await after(LIFETIME_SECONDS * 1000)
      const pages = await Promise.all(Array.from({ length: 20 }, () => visitor.get('/orders')))
      expect(pages.map(({ status }) => status)).toEqual(pages.map(() => 200))
      expect(await nextAsked(asked, 2)).toEqual(['refresh_token → 200', EXCHANGED])
    },
    TIMEOUT_MS,
  )

  it.concurrent(
    "the client's own token: one for all who ask at once, without a login",
    async () => {
      const { url, asked } = running.get("the client's own token")!
      const pages = await Promise.all(Array.from({ length: 20 }, () => browser(url).get('/orders')))
      expect(pages.filter(({ status }) => status !== 200).map(({ text }) => text)).toEqual([])
      expect(pages.map(({ json }) => idsIn(json.orders))).toEqual(pages.map(() => ORDERS))
      expect(await nextAsked(asked)).toEqual(['client_credentials → 200'])
    },
    TIMEOUT_MS,
  )
})

describe('a recipe that is given an ISSUER and nothing else', () => {
  it(
    'says in a line what to set, and exits with 1',
    async () => {
      const env = {
        ...ON_SOURCES,
        ISSUER: 'https://idp.example.com',
        CLIENT_ID: '',
        CLIENT_SECRET: '',
        API: '',
      }
      const printed = await printedBy(run(process.execPath, ['--import', 'tsx', 'examples/koa.ts'], env))
      const message = 'Besides ISSUER, set CLIENT_ID, CLIENT_SECRET and API.\n'
      expect(printed).toEqual({ stdout: '', stderr: message, exitCode: 1 })
    },
    TIMEOUT_MS,
  )
})

/** Logs in as the demo user. Answers with the page that came then, and a browser with the session from before. */
async function logIn(visitor: Browser, path: string) {
  const loginPage = await visitor.visit(path)
  const before = visitor.clone()
  const pressed = await visitor.post(loginPage.url)
  const page = await visitor.visit(pressed.headers.get('location') ?? '')
  return { page, before }
}

const idsIn = (orders: { id: number }[]) => orders.map(({ id }) => id)

async function start(file: string, env: NodeJS.ProcessEnv = {}): Promise<Recipe> {
  const child = run(process.execPath, ['--import', 'tsx', `examples/${file}`], { ...ON_OWN_STAGE, ...env })
  child.stderr.pipe(process.stderr)
  const asked: string[] = []
  const url = await new Promise<string>((resolve, reject) => {
    createInterface(child.stdout).on('line', (line) => {
      const [, request] = /^authorization server: (.*)$/.exec(line) ?? []
      if (request !== undefined) asked.push(request)
      const [, address] = /^Open (\S+)/.exec(line) ?? []
      if (address !== undefined) resolve(address)
    })
    once(child, 'exit').then(([code]) => reject(new Error(`${file} ended with ${code}`)), reject)
  })
  return { url, asked }
}

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import type { TokenSet } from '../../lib/tokens/token-set.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import { type Browser, browser } from '../helpers/browser.js'
import { type Site, type SiteOptions, startSite, tokensIn } from '../helpers/site.js'
import { type FileStore, fileStore, readSession, sessionIdOf } from '../helpers/stores.js'

declare module 'express-session' {
  interface SessionData {
    views?: number
  }
}

const HOUR_MS = 3_600_000
const ok = { status: 200 }
const loggedOut = { status: 401, json: { code: 'ERR_NO_TOKENS' } }

let server: AuthorizationServer
let files: FileStore
const running: Site[] = []

beforeAll(async () => {
  server = await startAuthorizationServer()
})
beforeEach(async () => {
  files = await fileStore()
})
afterEach(async () => {
  await stopAll()
  await files.close()
  expect(server.reuses()).toBe(0)
  expect(server.presentedAgain()).toEqual([])
})
afterAll(() => server.close())

/** A site over the session files: it knows of grants and of the time as a new process does, nothing. */
async function start(options?: SiteOptions): Promise<Site> {
  const site = await startSite(server, { store: files.reopen(), ...options })
  running.push(site)
  return site
}

async function stopAll(): Promise<void> {
  await Promise.all(running.splice(0).map((site) => site.close()))
}

async function tokensOf(tab: Browser): Promise<TokenSet | undefined> {
  const stored = await readSession(files.reopen(), sessionIdOf(tab.cookie('connect.sid')))
  return tokensIn(stored)
}

async function expectNewest(tab: Browser): Promise<void> {
  expect(await server.isActive((await tokensOf(tab))?.refreshToken ?? 'none')).toBe(true)
}

describe('S30 process restart with a persistent session store: the tokens are the newest', () => {
  it('S30 after one refresh and after several', async () => {
    let site = await start()
    let tab = site.browser()
    await site.login(tab)
    for (let restart = 1; restart <= 3; restart++) {
      site.clock.advance(HOUR_MS)
      const before = server.refreshes()
      const { token } = (await tab.get('/token')).json
      expect(server.refreshes() - before).toBe(1)
      await stopAll()
      await expectNewest(tab)
      site = await start()
      tab = site.visitorOf(tab)
      site.clock.advance(restart * HOUR_MS)
      expect((await tab.get('/token')).json.token).toBe(token)
      expect(server.refreshes() - before).toBe(1)
    }
  })

  it('S30 the app saves its session after the refresh, with resave: true', async () => {
    const site = await start({ session: { resave: true } })
    const tab = site.browser()
    await site.login(tab)
    const slow = site.slow('/report', (request) => {
      request.session.views = 7
    })
    const report = tab.get('/report')
    await slow.reached
    site.clock.advance(HOUR_MS)
    const { token } = (await tab.get('/token')).json
    slow.release()
    await report
    await stopAll()
    const restarted = await start()
    restarted.clock.advance(HOUR_MS)
    const before = server.refreshes()
    expect((await restarted.visitorOf(tab).get('/token')).json.token).toBe(token)
    expect(server.refreshes()).toBe(before)
    expect(await restarted.stored(tab)).toMatchObject({ views: 7 })
  })

  it('S30 stopped during a refresh: close() resolves when its result is stored', async () => {
    const site = await start()
    const tab = site.browser()
    await site.login(tab)
    site.clock.advance(HOUR_MS)
    const gate = server.holdAnswer()
    const leave = new AbortController()
    const gone = expect(tab.get('/token', { signal: leave.signal })).rejects.toThrow('aborted')
    await gate.reached
    leave.abort()
    await gone
    const stopped = stopAll()
    gate.release()
    await stopped
    await expectNewest(tab)
    const restarted = await start()
    restarted.clock.advance(HOUR_MS)
    const before = server.refreshes()
    expect(await restarted.visitorOf(tab).get('/token')).toMatchObject(ok)
    expect(server.refreshes()).toBe(before)
  })

  it('S30 a user who had logged out stays logged out', async () => {
    const site = await start()
    const tab = site.browser()
    await site.login(tab)
    site.clock.advance(HOUR_MS)
    await tab.get('/token')
    expect(await tab.post('/logout')).toMatchObject(ok)
    await stopAll()
    const restarted = await start()
    expect(await restarted.visitorOf(tab).get('/token')).toMatchObject(loggedOut)
  })

  it('S30 a session in which the grant had died is not refreshed again by the next process', async () => {
    const site = await start()
    const tab = site.browser()
    await site.login(tab)
    site.clock.advance(HOUR_MS)
    server.failNext('invalid_grant')
    expect((await tab.get('/token')).json.code).toBe('ERR_REAUTHENTICATION_REQUIRED')
    await stopAll()
    const restarted = await start()
    restarted.clock.advance(HOUR_MS)
    const before = server.tokenRequests.length
    const answer = await restarted.visitorOf(tab).get('/token')
    expect([answer.status, answer.json.code]).toEqual([401, 'ERR_REAUTHENTICATION_REQUIRED'])
    expect(server.tokenRequests.length).toBe(before)
  })
})

describe('S30 with real processes over the same files', () => {
  const children: ChildProcess[] = []

  interface SiteProcess {
    readonly url: string
    kill(): Promise<void>
  }

  /** Starts the usual site in a process of its own. */
  async function startProcess(): Promise<SiteProcess> {
    const { tokenEndpoint, revocationEndpoint, clients } = server
    const program = `
      import { startSite } from './__tests__/helpers/site.ts'
      import { openFileStore } from './__tests__/helpers/stores.ts'
      const [path, server] = JSON.parse(process.env.SITE)
      const site = await startSite(server, { store: openFileStore(path) })
      console.log(site.url)
    `
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', program], {
      env: {
        ...process.env,
        SITE: JSON.stringify([files.path, { tokenEndpoint, revocationEndpoint, clients }]),
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    children.push(child)
    const [url] = (await once(createInterface(child.stdout!), 'line')) as [string]
    return {
      url,
      async kill() {
        const gone = once(child, 'exit')
        child.kill('SIGKILL')
        await gone
      },
    }
  }

  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL')
  })

  /** A browser at another process, with the cookies that it has. */
  function tabAt(process: SiteProcess, tab?: Browser): Browser {
    const visitor = browser(process.url)
    if (tab) visitor.setCookie('connect.sid', tab.cookie('connect.sid')!)
    return visitor
  }

  it('S30 killed after a refresh: the next process has its result, and refreshes on from it', async () => {
    const one = await startProcess()
    const tab = tabAt(one)
    expect(await tab.post('/login', await server.login('alice'))).toMatchObject(ok)
    const first = (await tab.get('/token')).json.token
    const second = (await tab.get(`/token?rejected=${first}`)).json.token
    expect(second).not.toBe(first)
    await one.kill()

    const two = await startProcess()
    const tabThere = tabAt(two, tab)
    const before = server.refreshes()
    expect((await tabThere.get('/token')).json.token).toBe(second)
    expect(server.refreshes()).toBe(before)
    const third = (await tabThere.get(`/token?rejected=${second}`)).json.token
    expect(third).not.toBe(second)
    expect(server.refreshes() - before).toBe(1)
    await expectNewest(tab)
  }, 60_000)

  it('S30 killed before the authorization server has the refresh token: the next process uses it', async () => {
    const one = await startProcess()
    const tab = tabAt(one)
    expect(await tab.post('/login', await server.login('alice'))).toMatchObject(ok)
    const first = (await tab.get('/token')).json.token
    await server.down()
    // Nobody takes the connection: the refresh token has gone nowhere.
    expect((await tab.get(`/token?rejected=${first}`)).status).toBe(503)
    await one.kill()
    await server.up()

    const tabThere = tabAt(await startProcess(), tab)
    const before = server.refreshes()
    const second = (await tabThere.get(`/token?rejected=${first}`)).json.token
    expect(second).not.toBe(first)
    expect(server.refreshes() - before).toBe(1)
    await expectNewest(tab)
  }, 60_000)
})

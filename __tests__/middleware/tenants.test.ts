import { connect } from 'node:net'
import { json } from 'node:stream/consumers'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals'
import express, { type ErrorRequestHandler, type Request } from 'express'
import session, { type MemoryStore } from 'express-session'
import koaSession from 'koa-session'
import type { GrantStore } from '../../lib/grants/grant-store.js'
import {
  ConfigurationError,
  clientSecretBasic,
  memoryGrantStore,
  requireTokens,
  type SessionTokensOptions,
  sessionTokens,
  type TenantOptions,
  type TokenEvent,
} from '../../lib/index.js'
import {
  composeMiddleware,
  type MiddlewareContext,
  type ProcessServices,
} from '../../lib/middleware/composition.js'
import { middlewareOf } from '../../lib/middleware/express.js'
import {
  middlewareOf as koaMiddlewareOf,
  sessionTokens as koaSessionTokens,
} from '../../lib/middleware/koa.js'
import { Tenants } from '../../lib/middleware/tenants.js'
import { koaSessions } from '../../lib/sessions/koa/koa-sessions.js'
import { patchedStore } from '../../lib/sessions/store/patched-store.js'
import { startApp } from '../helpers/app.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import { type Browser, browser } from '../helpers/browser.js'
import { type TestClock, testClock } from '../helpers/clock.js'
import { createGate, type Gate } from '../helpers/gate.js'
import { koaVersions } from '../helpers/koa-site.js'
import { koaMemoryStore } from '../helpers/koa-stores.js'
import { ownProcess, tokensIn } from '../helpers/site.js'
import { readSession, recordingStore, type StoreRecording, sessionIdOf } from '../helpers/stores.js'

const HOUR_MS = 3_600_000
const NAMES = ['acme', 'globex'] as const
type Name = (typeof NAMES)[number]

let servers: Record<Name, AuthorizationServer>
const closers: (() => Promise<unknown>)[] = []
const gates: Gate[] = []

beforeAll(async () => {
  const [acme, globex] = await Promise.all([startAuthorizationServer(), startAuthorizationServer()])
  servers = { acme, globex }
})
afterEach(async () => {
  for (const gate of gates.splice(0)) gate.release()
  for (const close of closers.splice(0).reverse()) await close()
  for (const name of NAMES) expect(servers[name].reuses()).toBe(0)
})
afterAll(() => Promise.all(NAMES.map((name) => servers[name].close())))

function held(gate: Gate): Gate {
  gates.push(gate)
  return gate
}

/** The options of a tenant with a server of its own. */
function optionsOf(name: string): SessionTokensOptions {
  const { issuer, clients } = servers[name as Name]
  const { clientId, clientSecret } = clients.client_secret_basic
  return {
    issuer,
    clientId,
    clientAuthentication: clientSecretBasic(clientSecret),
    encryptionKeys: false as const,
  }
}

interface App {
  readonly url: string
  readonly page: Browser
  readonly store: StoreRecording<MemoryStore>
  readonly clock: TestClock
  readonly tenants: Tenants<Request>
  /** The names whose options were looked up. */
  readonly lookedUp: readonly string[]
  readonly made: readonly MiddlewareContext[]
  /** Requests of `/<tenant>/slow` wait here before they do their work. */
  readonly slow: Gate
  close(): Promise<void>
}

const tenantOf = ({ path }: Request): string => path.split('/')[1] ?? ''

/** An app whose tenants are the first part of a path, as a process of its own. */
async function start(
  options: Partial<TenantOptions<Request>> = {},
  surroundings: Partial<ProcessServices> = {},
): Promise<App> {
  const clock = testClock()
  const store = recordingStore()
  const lookedUp: string[] = []
  const made: MiddlewareContext[] = []
  const slow = held(createGate())
  const own = { ...ownProcess(clock), ...surroundings }
  const lookUp = options.options ?? optionsOf
  const tenants = new Tenants<Request>(
    {
      tenant: tenantOf,
      ...options,
      options(name) {
        lookedUp.push(name)
        return lookUp(name)
      },
    },
    (options, tenant) => {
      const mounted = composeMiddleware(options, own, undefined, tenant)
      made.push(mounted)
      return mounted
    },
  )
  const middleware = middlewareOf(tenants as never)
  const app = express()
  app.set('env', 'test')
  app.use(session({ secret: 'test', resave: false, saveUninitialized: false, store: store.store }))
  app.use(middleware, express.json())
  app.get('/:tenant/guarded', requireTokens(), (_, response) => void response.json('in'))
  app.all('/:tenant/:deed', (request, response, next) => {
    deed(request, slow).then((result) => response.json(result ?? null), next)
  })
  app.use(((error, _request, response, _next) => {
    response
      .status(error.status ?? 500)
      .json({ code: error.code, message: error.message, cause: String(error.cause) })
  }) as ErrorRequestHandler)
  const running = await startApp(() => app)
  closers.push(middleware.close, running.close)
  const page = browser(running.url)
  return { url: running.url, page, store, clock, tenants, lookedUp, made, slow, close: middleware.close }
}

async function deed({ params, tokens, body, session }: Request, slow: Gate): Promise<unknown> {
  switch (params.deed) {
    case 'login':
      return tokens.set(body)
    case 'token':
      return tokens.getAccessToken()
    case 'logout':
      return tokens.revoke()
    case 'has':
      return tokens.hasTokens()
    case 'slow':
      await slow.pass()
      return tokens.getAccessToken()
    case 'slow-write':
      await slow.pass()
      Object.assign(session, { views: 1 })
      return undefined
    default:
      return params.deed
  }
}

/** A grant store of the app: it counts as shared. */
function ownStore(): GrantStore {
  const store = memoryGrantStore()
  const methods = ['lease', 'renew', 'commit', 'release', 'read', 'end'] as const
  const bound = methods.map((name) => [
    name,
    (...args: never[]) => (store[name] as (...args: never[]) => unknown)(...args),
  ])
  return Object.fromEntries(bound)
}

async function login(page: Browser, name: Name): Promise<void> {
  expect((await page.post(`/${name}/login`, await servers[name].login('alice'))).status).toBe(200)
}

const refreshes = () => NAMES.map((name) => servers[name].refreshes())

describe('sessionTokens({ tenant, options })', () => {
  it('one session holds the tokens of two tenants, each refreshed at its own authorization server', async () => {
    const { page, clock, store, lookedUp } = await start()
    for (const name of NAMES) await login(page, name)
    clock.advance(HOUR_MS)
    const before = refreshes()
    const tokens = await Promise.all(
      [...NAMES, ...NAMES].map(
        async (name) => [name, (await page.get(`/${name}/token`)).json.token] as const,
      ),
    )
    expect(refreshes()).toEqual(before.map((count) => count + 1))
    for (const [name, token] of tokens) {
      expect(await servers[name].isActive(token)).toBe(true)
      expect(await servers[name === 'acme' ? 'globex' : 'acme'].isActive(token)).toBe(false)
    }
    const stored = await readSession(store.store, sessionIdOf(page.cookie('connect.sid')))
    for (const name of NAMES) {
      const { refreshToken } = tokensIn(stored, `tokens:${name}`)!
      expect(await servers[name].isActive(refreshToken!)).toBe(true)
    }
    expect(lookedUp).toEqual(NAMES)
  })

  it('S95 events name the tenant', async () => {
    const events: TokenEvent[] = []
    const app = express()
    app.use(session({ secret: 'test', resave: false, saveUninitialized: false }))
    const options = (name: string) => ({
      ...optionsOf(name),
      onEvent: (event: TokenEvent) => events.push(event),
    })
    app.use(sessionTokens({ tenant: tenantOf, options }), express.json())
    app.all('/:tenant/:deed', (request, response, next) => {
      deed(request, createGate()).then((result) => response.json(result ?? null), next)
    })
    const running = await startApp(() => app)
    closers.push(running.close)
    const page = browser(running.url)
    for (const name of NAMES) await login(page, name)
    expect(events).toMatchObject(NAMES.map((tenant) => ({ type: 'logged_in', tenant })))
  })

  it('a logout at one tenant, and a new login, do not affect the other', async () => {
    const { page } = await start()
    for (const name of NAMES) await login(page, name)
    expect((await page.post('/acme/logout', {})).status).toBe(200)
    expect((await page.get('/acme/token')).json.code).toBe('ERR_NO_TOKENS')
    expect((await page.get('/globex/token')).status).toBe(200)
    await login(page, 'acme')
    expect((await page.get('/acme/token')).status).toBe(200)
    expect((await page.get('/globex/token')).status).toBe(200)
  })

  it('a copy of one tenant under the key of another counts as no copy', async () => {
    const { page, store } = await start()
    await login(page, 'acme')
    await page.get('/globex/has')
    const sid = sessionIdOf(page.cookie('connect.sid'))
    const { sessions } = store.store as unknown as { sessions: Record<string, string> }
    const stored = JSON.parse(sessions[sid]!)
    sessions[sid] = JSON.stringify({ ...stored, 'tokens:globex': stored['tokens:acme'] })
    expect((await page.get('/globex/token')).json.code).toBe('ERR_NO_TOKENS')
    expect((await page.get('/acme/token')).status).toBe(200)
  })

  it('the options of a tenant are looked up once, at its first request, however many come at once', async () => {
    const gate = held(createGate())
    let asked = 0
    const { page, lookedUp } = await start({
      tenant(request) {
        asked++
        return tenantOf(request)
      },
      options: async (name) => {
        await gate.pass()
        return optionsOf(name)
      },
    })
    const answers = Array.from({ length: 20 }, () => page.get('/acme/has'))
    while (asked < answers.length) await new Promise(setImmediate)
    gate.release()
    for (const answer of await Promise.all(answers)) expect(answer.json).toBe(false)
    expect((await page.get('/acme/has')).json).toBe(false)
    expect(lookedUp).toEqual(['acme'])
  })

  it('guards routes with requireTokens()', async () => {
    const { page } = await start()
    expect((await page.get('/acme/guarded')).status).toBe(401)
    await login(page, 'acme')
    expect((await page.get('/acme/guarded')).json).toBe('in')
    expect((await page.get('/globex/guarded')).status).toBe(401)
  })

  it('a sessionKey of a tenant is used unchanged; two equal ones are rejected', async () => {
    const { page, store } = await start({ options: (name) => ({ ...optionsOf(name), sessionKey: 'mine' }) })
    await login(page, 'acme')
    const stored = await readSession(store.store, sessionIdOf(page.cookie('connect.sid')))
    expect(tokensIn(stored, 'mine')).toBeDefined()
    const answer = await page.get('/globex/has')
    expect([answer.status, answer.json.code]).toEqual([500, 'ERR_CONFIGURATION'])
    expect(answer.json.message).toMatch(/same session key, `mine`/)
  })

  it('closed, resolves when the refreshes of every tenant are stored', async () => {
    const { page, clock, store, close } = await start()
    for (const name of NAMES) await login(page, name)
    clock.advance(HOUR_MS)
    const gate = held(servers.globex.holdAnswer())
    const asking = NAMES.map((name) => page.get(`/${name}/token`))
    await gate.reached
    let closed = false
    const closing = close().then(() => (closed = true))
    await asking[0]
    expect(closed).toBe(false)
    gate.release()
    await closing
    const stored = await readSession(store.store, sessionIdOf(page.cookie('connect.sid')))
    for (const name of NAMES) expect(tokensIn(stored, `tokens:${name}`)?.revision).toBe(2)
    await Promise.all(asking)
  })
})

describe('maxTenants', () => {
  it('removes the tenant that had no request for the longest time; its options are looked up again', async () => {
    const { page, lookedUp } = await start({ maxTenants: 1 })
    await login(page, 'acme')
    await login(page, 'globex')
    expect((await page.get('/acme/token')).status).toBe(200)
    expect((await page.get('/globex/token')).status).toBe(200)
    expect(lookedUp).toEqual(['acme', 'globex', 'acme', 'globex'])
  })

  it('S51 a refresh in flight ends and is stored, and is not repeated', async () => {
    const { page, clock, store, slow } = await start({ maxTenants: 1 })
    for (const name of NAMES) await login(page, name)
    clock.advance(HOUR_MS)
    const before = refreshes()
    const gate = held(servers.acme.holdAnswer())
    const asking = page.get('/acme/token')
    await gate.reached
    expect((await page.get('/globex/has')).json).toBe(true)
    const again = page.get('/acme/token')
    gate.release()
    slow.release()
    const [first, second] = await Promise.all([asking, again])
    expect(first.json.token).toBe(second.json.token)
    expect(refreshes()[0]).toBe(before[0]! + 1)
    const stored = await readSession(store.store, sessionIdOf(page.cookie('connect.sid')))
    expect(tokensIn(stored, 'tokens:acme')?.refreshToken).toBeDefined()
    expect(await servers.acme.isActive(tokensIn(stored, 'tokens:acme')!.refreshToken!)).toBe(true)
  })

  it('S36 a request in progress for a removed tenant saves its old session: no token comes back', async () => {
    const { page, store, slow, made } = await start({ maxTenants: 1 })
    await login(page, 'acme')
    const writing = page.get('/acme/slow-write')
    await slow.reached
    expect((await page.post('/acme/logout', {})).status).toBe(200)
    expect((await page.get('/globex/has')).json).toBe(false)
    slow.release()
    await writing
    const stored = await readSession(store.store, sessionIdOf(page.cookie('connect.sid')))
    expect(stored).toMatchObject({ views: 1 })
    expect(stored).not.toHaveProperty(['tokens:acme'])
    expect(made).toHaveLength(2)
  })

  it('looks after the sessions of requests that waited together for the options of their tenants', async () => {
    const options = held(createGate())
    const { page, slow, store } = await start({
      maxTenants: 1,
      async options(name) {
        await options.pass()
        return optionsOf(name)
      },
    })
    const asking = NAMES.map((name) => page.clone().get(`/${name}/slow`))
    await options.reachedBy(2)
    options.release()
    await slow.reachedBy(2)
    const keys = [...patchedStore(store.store as never).interceptors].map(({ key }) => key)
    expect(keys.sort()).toEqual(['tokens:acme', 'tokens:globex'])
    slow.release()
    await Promise.all(asking)
  })

  it('does not change the sessions when the last request of a removed tenant ends', async () => {
    const { page, slow, made } = await start({ maxTenants: 1 })
    await login(page, 'acme')
    const asking = page.get('/acme/slow')
    await slow.reached
    const closed = jest.spyOn(made[0]!.sessions, 'close')
    await page.get('/globex/has')
    await new Promise(setImmediate)
    expect(closed).not.toHaveBeenCalled()
    slow.release()
    await asking
    while (closed.mock.calls.length === 0) await new Promise(setImmediate)
  })

  it('a grant store of the app that fails to unsubscribe does not end the process when a tenant is removed', async () => {
    let failures = 0
    const fails = () => {
      failures += 1
      throw new Error('gone')
    }
    const grants = { ...ownStore(), subscribe: () => fails, onLoss: () => fails }
    const { page } = await start({ maxTenants: 1, options: (name) => ({ ...optionsOf(name), grants }) })
    await login(page, 'acme')
    await login(page, 'globex')
    while (failures === 0) await new Promise(setImmediate)
    expect((await page.get('/acme/token')).status).toBe(200)
  })

  it('a tenant takes memory for the sessions that it has, not for all that it may have', async () => {
    setFlagsFromString('--expose_gc')
    const collect = runInNewContext('gc') as () => void
    const taken = () => {
      collect()
      const { external, heapUsed } = process.memoryUsage()
      return heapUsed + external
    }
    const grants = memoryGrantStore()
    const options = () => ({ ...optionsOf('acme'), keep: 'store', grants }) as SessionTokensOptions
    const { page } = await start({ options })
    await page.get('/first/has')
    const before = taken()
    for (let n = 0; n < 50; n++) await page.get(`/tenant-${n}/has`)
    expect((taken() - before) / 50).toBeLessThan(300_000)
  })

  it('a request has ended when its client has disconnected, though the previous response is still to come', async () => {
    const { page, url, slow, made } = await start({ maxTenants: 1 })
    const client = connect(Number(new URL(url).port), '127.0.0.1')
    client.write('GET /acme/slow HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(2))
    await slow.reachedBy(2)
    const closed = jest.spyOn(made[0]!.sessions, 'close')
    await page.get('/globex/has')
    client.destroy()
    while (closed.mock.calls.length === 0) await new Promise(setImmediate)
  })
})

describe('a request without a tenant, or whose tenant has no options, fails with the reason', () => {
  it.each<[string, Partial<TenantOptions<Request>>, RegExp]>([
    [
      'the tenant is undefined',
      { tenant: () => undefined as never },
      /`tenant` names no tenant for this request/,
    ],
    ['the tenant is empty', { tenant: () => '' }, /Mount sessionTokens\(\) only on the paths of tenants/],
    ['the tenant is a promise', { tenant: (async () => 'acme') as never }, /must return a string/],
    [
      'tenant() throws',
      {
        tenant: () => {
          throw new Error('no host')
        },
      },
      /^`tenant` failed/,
    ],
    [
      'options() returns no options',
      { options: () => undefined as never },
      /There are no options of the tenant "acme"/,
    ],
    [
      'options() rejects',
      { options: () => Promise.reject(new Error('down')) },
      /"acme" could not be looked up/,
    ],
    [
      'options() throws',
      {
        options: () => {
          throw new Error('down')
        },
      },
      /"acme" could not be looked up/,
    ],
    [
      'the options are wrong',
      { options: () => ({ issuer: 'https://idp.example', clientID: 'web' }) as never },
      /In the options of the tenant "acme": .*Did you mean `clientId`/,
    ],
  ])('%s', async (_, options, why) => {
    const { page } = await start(options)
    const answer = await page.get('/acme/has')
    expect([answer.status, answer.json.code]).toEqual([500, 'ERR_CONFIGURATION'])
    expect(answer.json.message).toMatch(why)
  })

  it('options() that never resolves fails the request, and the next request tries again', async () => {
    const tenants = new Tenants({ tenant: () => 'acme', options: () => new Promise<never>(() => {}) }, () => {
      throw new Error('no options, no mount')
    })
    jest.useFakeTimers()
    try {
      for (const _ of ['first', 'next']) {
        const refused = expect(tenants.of({}, {} as never, {} as never)).rejects.toThrow(
          /"acme" could not be looked up/,
        )
        await jest.advanceTimersByTimeAsync(10_000)
        await refused
      }
    } finally {
      jest.useRealTimers()
    }
    await tenants.close()
  })

  it('the next request tries again, and other tenants are served all along', async () => {
    let down = true
    const { page } = await start({
      options(name) {
        if (name === 'acme' && down) throw new Error('down')
        return optionsOf(name)
      },
    })
    expect((await page.get('/acme/has')).status).toBe(500)
    expect((await page.get('/globex/has')).json).toBe(false)
    down = false
    expect((await page.get('/acme/has')).json).toBe(false)
  })

  it('shows only the beginning of an invented name', async () => {
    const { page } = await start({ options: () => undefined as never })
    const answer = await page.get(`/${'x'.repeat(500)}/has`)
    expect(answer.json.message).toContain(`"${'x'.repeat(100)}"`)
  })
})

describe('sessionTokens() rejects at construction', () => {
  it.each<[string, object, RegExp]>([
    ['no tenant', { options: optionsOf }, /^`tenant` must be a function/],
    ['no options', { tenant: tenantOf }, /^`options` must be a function, e\.g\. options: \(tenant\)/],
    [
      'options in an object',
      { tenant: tenantOf, options: {} },
      /^`options` must be a function, e\.g\. options: \(tenant\)/,
    ],
    [
      'a misspelt option',
      { tenant: tenantOf, options: optionsOf, maxTenant: 5 },
      /Did you mean `maxTenants`/,
    ],
    ['maxTenants of 0', { tenant: tenantOf, options: optionsOf, maxTenants: 0 }, /whole number from 1/],
    [
      'options of both kinds',
      { tenant: tenantOf, options: optionsOf, clientId: 'web' },
      /no option `clientId`/,
    ],
  ])('%s', (_, options, why) => {
    expect(() => sessionTokens(options as never)).toThrow(why)
    expect(() => sessionTokens(options as never)).toThrow(ConfigurationError)
  })
})

it('TypeScript knows the request that tenant(), options() and adopt() are about', async () => {
  const grants = memoryGrantStore()
  const find = async (tenant: string) => ({ issuer: `https://${tenant}`, clientId: 'web', secret: 'secret' })
  const middleware = sessionTokens({
    tenant: (request) => request.headers.host ?? '',
    options: async (tenant) => {
      const { issuer, clientId, secret } = await find(tenant)
      return {
        issuer,
        clientId,
        clientAuthentication: clientSecretBasic(secret),
        encryptionKeys: false,
        grants,
        adopt: (request) => request.session.cookie.path,
      }
    },
    maxTenants: 5,
  })
  await middleware.close()
  const ofExpress: TenantOptions<Request>['tenant'] = (request: Request) => request.hostname
  await sessionTokens({ tenant: ofExpress, options: optionsOf }).close()
})

describe('mounted twice, for two authorization servers', () => {
  it('on two paths: each refreshes at its own authorization server, independently', async () => {
    const app = express()
    const clock = testClock()
    app.use(session({ secret: 'test', resave: false, saveUninitialized: false }), express.json())
    const mounts = NAMES.map((name) => {
      const tokens = sessionTokens({ ...optionsOf(name), sessionKey: name })
      app.use(`/${name}`, tokens)
      return tokens
    })
    app.all('/:tenant/:deed', (request, response, next) => {
      deed(request, createGate()).then((result) => response.json(result ?? null), next)
    })
    const running = await startApp(() => app)
    closers.push(...mounts.map(({ close }) => close), running.close)
    const page = browser(running.url)
    for (const name of NAMES) {
      const { expires_in: _, ...response } = await servers[name].login('alice')
      await page.post(`/${name}/login`, { ...response, expires_at: Math.floor(clock.now() / 1000) })
    }
    const before = refreshes()
    const answers = await Promise.all(
      [...NAMES, ...NAMES].map(
        async (name) => [name, (await page.get(`/${name}/token`)).json.token] as const,
      ),
    )
    for (const [name, token] of answers) expect(await servers[name].isActive(token)).toBe(true)
    expect(refreshes()).toEqual(before.map((count) => count + 1))
  })
})

describe.each(koaVersions)('sessionTokens({ tenant, options }), %s', (_, Koa) => {
  it('one session holds the tokens of two tenants; a request that is at work keeps its tenant', async () => {
    const lookedUp: string[] = []
    const own = ownProcess()
    const tenants = new Tenants<{ path: string }>(
      {
        tenant: ({ path }) => path.split('/')[1] ?? '',
        options(name) {
          lookedUp.push(name)
          return optionsOf(name)
        },
        maxTenants: 1,
      },
      (options) => composeMiddleware(options, own, koaSessions),
    )
    const middleware = koaMiddlewareOf(tenants as never)
    const slow = held(createGate())
    const app = new Koa()
    app.silent = true
    app.keys = ['test']
    app.use(koaSession({ store: koaMemoryStore() }, app))
    app.use(middleware)
    app.use(async (ctx) => {
      const body = ctx.method === 'POST' ? await json(ctx.req) : undefined
      const params = { deed: ctx.path.split('/')[2] }
      ctx.body = JSON.stringify((await deed({ params, body, tokens: ctx.tokens } as never, slow)) ?? null)
    })
    const running = await startApp(() => app.callback())
    closers.push(middleware.close, running.close)
    const page = browser(running.url)
    for (const name of NAMES) await login(page, name)
    const asking = page.get('/globex/slow')
    await slow.reached
    const { token } = (await page.get('/acme/token')).json
    expect(await servers.acme.isActive(token)).toBe(true)
    slow.release()
    expect(await servers.globex.isActive((await asking).json.token)).toBe(true)
    expect(lookedUp).toEqual(['acme', 'globex', 'acme'])
    expect((await page.get('/')).status).toBe(500)
  })

  it('rejects a wrong option at once, and a property that Koa uses when it is found', async () => {
    expect(() => koaSessionTokens({ tenant: tenantOf } as never)).toThrow(/^`options` must be a function/)
    const app = new Koa()
    app.silent = true
    const failures: Error[] = []
    app.on('error', (error: Error) => void failures.push(error))
    app.use(
      koaSessionTokens({
        tenant: () => 'acme',
        options: () => ({ ...optionsOf('acme'), property: 'state' }),
      }),
    )
    const running = await startApp(() => app.callback())
    closers.push(running.close)
    expect((await browser(running.url).get('/')).status).toBe(500)
    expect(failures[0]?.message).toMatch(/^`property` must not be 'state': ctx\.state is in use already\./)
  })
})

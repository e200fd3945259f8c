import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks'
import { once } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import type { SessionTokensOptions } from '../../lib/index.js'
import { type TestClock, testClock } from '../helpers/clock.js'
import { startTokenEndpoint } from '../helpers/fault-server.js'
import { createGate } from '../helpers/gate.js'
import { outboundClients } from '../helpers/outbound-clients.js'
import { ownProcess } from '../helpers/site.js'
import { type WireServer, wireServer } from '../helpers/wire-server.js'
import { WAYS } from './ambient-ways.js'
import type { FrameworkApp, FrameworkDriver } from './framework-driver.js'
import { frameworkApps } from './framework-tests.js'
import type { OutboundCall } from './outbound-client-driver.js'

const HOUR_MS = 3_600_000
const KNOWN = { access_token: 'alice 0', expires_in: 3600 }

/** How clients for the whole app find the session of the request that is being served, in every framework. */
export function describeAmbient(driver: FrameworkDriver): void {
  describe.each(outboundClients)(`the $name of the whole app, ${driver.name}`, (client) => {
    const apps = frameworkApps(driver)
    let clock: TestClock
    let app: FrameworkApp
    let api: WireServer
    let call: OutboundCall

    /** An app whose handlers at `/login` take the tokens that are posted to them. */
    function start(...mounts: Partial<SessionTokensOptions>[]): void {
      clock = testClock()
      app = apps.app()
      app.sessions()
      const surroundings = ownProcess(clock)
      for (const options of mounts) app.tokens(apps.options(options), { surroundings })
      app.handle('/login', (visit) => visit.tokens.set(visit.body))
      app.handle('/login/other', (visit) => visit.tokensOf('other').set(visit.body))
    }

    /** What comes of a call: the token that the API has seen, or the error. */
    const told = (call: Promise<{ text: string }>) =>
      call.then(
        ({ text }) => text,
        ({ code, message }) => ({ code, message }),
      )
    const refused = (message: RegExp) => ({
      code: 'ERR_CONFIGURATION',
      message: expect.stringMatching(message),
    })
    /** Handles a path with a call. */
    const calling = (path: string) => app.handle(path, () => told(call({ url: '/' })))

    beforeEach(async () => {
      // The API says whose token it was sent.
      api = await wireServer(async ({ headers }, response) => {
        await setImmediate()
        response.end(headers.authorization?.replace('Bearer ', ''))
      })
      apps.closing(api.close)
      call = client.ambient({ baseURL: api.url })
      start({ ambient: true })
    })

    it('has the tokens of the session', async () => {
      calling('/call')
      const page = await app.listen()
      await page.post('/login', KNOWN)
      expect((await page.get('/call')).json).toBe('alice 0')
    })

    it('S74 has none when nobody is logged in', async () => {
      calling('/call')
      expect((await (await app.listen()).get('/call')).json).toMatchObject({ code: 'ERR_NO_TOKENS' })
      expect(api.requests).toEqual([])
    })

    it('heeds the route', async () => {
      app.guard('/call', { user: 'none' })
      calling('/call')
      const page = await app.listen()
      await page.post('/login', KNOWN)
      expect((await page.get('/call')).json).toBe('')
    })

    it.each(WAYS)('S14 has them behind %s, and behind a body that was parsed', async (_, way) => {
      const one = async () => (await call({ url: '/' })).text
      app.handle('/call', (visit) => way(visit, one, api.url))
      const page = await app.listen()
      await page.post('/login', KNOWN)
      expect((await page.post('/call', { number: 1 })).json).toBe('alice 0')
      expect((await page.get('/call')).json).toBe('alice 0')
    })

    describe('S14 a refresh', () => {
      it('that another request has begun comes back to each in its own', async () => {
        const gate = createGate()
        const endpoint = await startTokenEndpoint(async () => {
          await gate.pass()
          return { status: 200, body: { access_token: 'alice 1', token_type: 'Bearer', expires_in: 3600 } }
        })
        apps.closing(endpoint.close)
        start({ ambient: true, tokenEndpoint: endpoint.tokenEndpoint })
        calling('/first')
        const joined = createGate()
        app.handle('/second', async () => {
          const before = call({ url: '/' })
          joined.release()
          const token = await told(before)
          await firstIsOut
          // In the context of the first request this would be after its answer.
          return [token, await told(call({ url: '/' }))]
        })
        const page = await app.listen()
        await page.post('/login', { ...KNOWN, refresh_token: 'alice' })
        clock.advance(HOUR_MS)
        const first = page.get('/first')
        const firstIsOut = first.then(() => setImmediate())
        await gate.reached
        const second = page.get('/second')
        await joined.pass()
        gate.release()
        expect((await first).json).toBe('alice 1')
        expect((await second).json).toEqual(['alice 1', 'alice 1'])
        expect(endpoint.requests).toHaveLength(1)
      })
    })

    it('S70 a call that was made before the answer is sent again after it', async () => {
      const endpoint = await startTokenEndpoint(() => ({
        status: 200,
        body: { access_token: 'alice 1', token_type: 'Bearer', expires_in: 3600 },
      }))
      const answered = createGate()
      const choosy = await wireServer(async ({ headers: { authorization = '' } }, response) => {
        await answered.pass()
        response.statusCode = authorization === 'Bearer alice 0' ? 401 : 200
        response.end(authorization)
      })
      apps.closing(endpoint.close)
      apps.closing(choosy.close)
      start({ ambient: true, tokenEndpoint: endpoint.tokenEndpoint })
      let late: Promise<unknown> | undefined
      app.handle('/call', ({ response }) => {
        response.once('finish', answered.release)
        late = told(client.ambient({ baseURL: choosy.url })({ url: '/' }))
      })
      const page = await app.listen()
      await page.post('/login', { ...KNOWN, refresh_token: 'alice' })
      await page.get('/call')
      expect(await late).toBe('Bearer alice 1')
    })

    describe('several mounts', () => {
      const other = { property: 'other', sessionKey: 'other', clientId: 'another' }
      const OTHERS = { access_token: 'bob 0', expires_in: 3600 }

      it('each has its tokens under its property', async () => {
        start({ ambient: true }, { ambient: true, ...other })
        const ofOther = client.ambient({ baseURL: api.url, property: 'other' })
        app.handle('/call', () => Promise.all([told(call({ url: '/' })), told(ofOther({ url: '/' }))]))
        const page = await app.listen()
        await page.post('/login', KNOWN)
        expect((await page.get('/call')).json).toEqual([
          'alice 0',
          expect.objectContaining({ code: 'ERR_NO_TOKENS' }),
        ])
        await page.post('/login/other', OTHERS)
        expect((await page.get('/call')).json).toEqual(['alice 0', 'bob 0'])
      })

      it.each(['nowhere', 'other', 'toString'])(
        'the property %s without ambient: nothing is sent',
        async (property) => {
          start({ ambient: true }, other)
          const unknown = client.ambient({ baseURL: api.url, property })
          app.handle('/call', () => told(unknown({ url: '/' })))
          const page = await app.listen()
          await page.post('/login', KNOWN)
          await page.post('/login/other', OTHERS)
          expect((await page.get('/call')).json).toEqual(
            refused(new RegExp(`has no tokens under '${property}'`)),
          )
          expect(api.requests).toEqual([])
        },
      )

      it('of tenants, one request in each: neither sees the tokens of the other', async () => {
        app = apps.app()
        app.sessions()
        const tenantOf = (request: { url?: string; request?: { url?: string } }) =>
          new URL(request.url ?? request.request?.url ?? '', 'http://any').searchParams.get('tenant') ??
          'none'
        const options = async () => apps.options({ ambient: true })
        app.tokens({ tenant: tenantOf, options } as never)
        app.tokens(apps.options({ ambient: true, ...other }))
        app.handle('/login', (visit) => visit.tokens.set(visit.body))
        app.handle('/login/other', (visit) => visit.tokensOf('other').set(visit.body))
        const gate = createGate()
        const ofOther = client.ambient({ baseURL: api.url, property: 'other' })
        app.handle('/call', async () => {
          await gate.pass()
          return [await told(call({ url: '/' })), await told(ofOther({ url: '/' }))]
        })
        const page = await app.listen()
        for (const tenant of ['a', 'b']) {
          await page.post(`/login?tenant=${tenant}`, { access_token: `tenant ${tenant}`, expires_in: 3600 })
        }
        await page.post('/login/other?tenant=a', OTHERS)
        const answers = ['a', 'b', 'a', 'c'].map((tenant) => page.get(`/call?tenant=${tenant}`))
        await gate.reachedBy(4)
        gate.release()
        expect((await Promise.all(answers)).map(({ json }) => json)).toEqual([
          ['tenant a', 'bob 0'],
          ['tenant b', 'bob 0'],
          ['tenant a', 'bob 0'],
          [expect.objectContaining({ code: 'ERR_NO_TOKENS' }), 'bob 0'],
        ])
      })
    })

    describe('nothing is sent', () => {
      afterEach(() => expect(api.requests).toEqual([]))

      it('outside a request', async () => {
        const page = await app.listen()
        await page.post('/login', KNOWN)
        expect(await told(call({ url: '/' }))).toEqual(refused(/^No request is being served here\. /))
      })

      it('in an app without ambient', async () => {
        start({})
        calling('/call')
        const page = await app.listen()
        await page.post('/login', KNOWN)
        expect((await page.get('/call')).json).toEqual(refused(/the option `ambient: true`/))
      })

      it('on a path without tokens, over the connection of a request that has some', async () => {
        app = apps.app()
        app.sessions()
        app.tokens(apps.options({ ambient: true }), { on: '/tokens' })
        app.handle('/tokens/login', (visit) => visit.tokens.set(visit.body))
        calling('/call')
        const page = await app.listen()
        for (let count = 0; count < 5; count++) {
          await page.post('/tokens/login', KNOWN)
          expect((await page.get('/call')).json).toEqual(refused(/^No request is being served here/))
        }
      })

      it('after the answer', async () => {
        let late: Promise<unknown> | undefined
        app.handle('/late', ({ response }) => {
          late = once(response, 'finish').then(() => told(call({ url: '/' })))
        })
        const page = await app.listen()
        await page.post('/login', KNOWN)
        await page.get('/late')
        expect(await late).toEqual(refused(/the response was sent, or the client has disconnected/))
      })
    })

    it('S26 a client that disconnects ends no call under way, and the next one is refused', async () => {
      let outcome: Promise<unknown> | undefined
      const arrived = createGate()
      const answered = createGate()
      const slow = await wireServer(async ({ headers }, response) => {
        await answered.pass()
        response.end(headers.authorization)
      })
      apps.closing(slow.close)
      app.handle('/call', async ({ response }) => {
        const underWay = told(client.ambient({ baseURL: slow.url })({ url: '/' }))
        const gone = once(response, 'close')
        outcome = gone.then(async () => {
          const next = await told(call({ url: '/' }))
          answered.release()
          return [await underWay, next]
        })
        void arrived.pass()
        await outcome
      })
      const page = await app.listen()
      await page.post('/login', KNOWN)
      const leaving = new AbortController()
      const left = page.get('/call', { signal: leaving.signal }).catch(() => 'left')
      await arrived.reached
      await answered.reached
      leaving.abort()
      expect(await left).toBe('left')
      expect(await outcome).toEqual([
        'Bearer alice 0',
        refused(/^This call came after its request had ended/),
      ])
      expect(api.requests).toEqual([])
    })

    it.each(['was answered', 'was left by its client'])(
      'S66 what a request has left behind at work for another user gets no token, once the request %s',
      async (ending) => {
        let late: (() => Promise<unknown>) | undefined
        let closed: Promise<unknown> | undefined
        const gate = createGate()
        if (ending === 'was answered') gate.release()
        app.handle('/first', async ({ response }) => {
          late = AsyncResource.bind(() => told(call({ url: '/' }))) as typeof late
          closed = once(response, 'close')
          await gate.pass()
        })
        app.handle('/second', () => late!())
        const page = await app.listen()
        const other = page.clone()
        await page.post('/login', KNOWN)
        await other.post('/login', { access_token: 'bob 0', expires_in: 3600 })
        const leaving = new AbortController()
        const first = page.get('/first', { signal: leaving.signal }).catch(() => {})
        await gate.reached
        if (ending !== 'was answered') leaving.abort()
        await first
        await closed
        expect((await other.get('/second')).json).toEqual(refused(/its request had ended/))
        expect(api.requests).toEqual([])
        gate.release()
      },
    )

    it.each([
      ['nothing without ambient', undefined, 0],
      ['nothing with ambient: false', false, 0],
      ['one context a request with ambient: true', true, 1],
    ])('costs %s', async (_, ambient, entered) => {
      start(ambient === undefined ? {} : { ambient })
      app.handle('/token', ({ tokens }) => tokens.getAccessToken())
      const page = await app.listen()
      await page.post('/login', KNOWN)
      const methods = ['run', 'enterWith'] as const
      const spies = methods.map((method) => jest.spyOn(AsyncLocalStorage.prototype, method))
      const calls = () => spies.map(({ mock }) => mock.calls.splice(0).length)
      // Newer Node enters a context with the one method by means of the other.
      new AsyncLocalStorage().run({}, () => {})
      const ofOne = calls()
      expect((await page.get('/token')).status).toBe(200)
      expect(calls()).toEqual(ofOne.map((count) => count * entered))
    })
  })
}

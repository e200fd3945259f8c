import { getEventListeners } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import { describe, expect, it } from '@jest/globals'
import {
  ConfigurationError,
  type OutboundOptions,
  type Replay,
  StepUpError,
  TokenError,
} from '../../lib/index.js'
import { createGate } from '../helpers/gate.js'
import { HOUR_MS, OutboundSite } from '../helpers/outbound-site.js'
import { json, type WireRequest } from '../helpers/wire-server.js'
import type { OutboundCall, OutboundClientDriver } from './outbound-client-driver.js'

const STEP_UP = 'Bearer error="insufficient_user_authentication", acr_values="mfa phr", max_age="300"'

/** What the calls of every client do with the session's tokens. */
export function describeOutboundClient(driver: OutboundClientDriver): void {
  describe(`tokens.${driver.name}(config)`, () => {
    const at = new OutboundSite()

    const calling = <T>(work: (call: OutboundCall) => Promise<T>, options: Partial<OutboundOptions> = {}) =>
      at.inRequest((tokens) => work(driver.of(tokens, { baseURL: at.api.url, ...options })))

    it('sends the access token along', async () => {
      const { status, text, url } = await calling((call) => call({ url: '/orders?open=1' }))
      expect([status, text, url]).toEqual([200, '{"orders":[]}', `${at.api.url}/orders?open=1`])
      expect(at.api.requests).toMatchObject([{ method: 'GET', path: '/orders?open=1' }])
      expect(at.authorizations()).toEqual([`Bearer ${await at.sessionToken()}`])
      expect(at.refreshes()).toBe(0)
    })

    it('refreshes an expired token first', async () => {
      const before = await at.sessionToken()
      at.site.clock.advance(HOUR_MS)
      await calling((call) => call({ url: '/orders' }))
      expect(await at.sessionToken()).not.toBe(before)
      expect(at.authorizations()).toEqual([`Bearer ${await at.sessionToken()}`])
    })

    it('asks for the token that is needed, at each call', async () => {
      const resource = 'https://orders.example'
      await at.site.login(at.browser, 'user', { resource })
      await at.inRequest(async (tokens) => {
        const need = { resource, scope: 'orders.read' }
        const orders = driver.of(tokens, { baseURL: at.api.url, need })
        await orders({ url: '/one' })
        await orders({ url: '/two' })
        await driver.of(tokens, { baseURL: at.api.url })({ url: '/three' })
      })
      const [one, two, three] = at.authorizations()
      expect(one).toMatch(/^Bearer ey/)
      expect(two).toBe(one)
      expect(three).not.toBe(one)
      expect(at.refreshes()).toBe(1)
    })

    it('S74 sends nothing when nobody is logged in', async () => {
      at.browser = at.site.browser()
      await expect(calling((call) => call({ url: '/orders' }))).rejects.toMatchObject({
        code: 'ERR_NO_TOKENS',
      })
      expect(at.api.requests).toEqual([])
    })

    it('sends nothing when the token is not a bearer token', async () => {
      await at.browser.post('/login', { access_token: 'bound', token_type: 'DPoP', expires_in: 60 })
      const message = expect.stringContaining('getAccessToken()')
      await expect(calling((call) => call({ url: '/orders' }))).rejects.toMatchObject({
        code: 'ERR_INVALID_TOKEN_RESPONSE',
        message,
      })
      expect(at.api.requests).toEqual([])
    })

    describe('options', () => {
      const baseURL = 'https://api.example.com'

      it.each<[string, unknown, string | RegExp]>([
        ['undefined', undefined, `${driver.name}() takes an object that names the API: ${driver.name}({`],
        ['null', null, `${driver.name}() takes an object that names the API: ${driver.name}({`],
        ['a text', baseURL, `${driver.name}() takes an object that names the API: ${driver.name}({`],
        ['no baseURL', {}, 'must be absolute http or https URLs, e.g. baseURL: "https://api.example.com"'],
        [
          'a baseUrl',
          { baseUrl: baseURL },
          `${driver.name}() has no option \`baseUrl\`. Did you mean \`baseURL\`?`,
        ],
        ['a relative baseURL', { baseURL: '/api' }, 'must be absolute http or https URLs'],
        ['a baseURL without a scheme', { baseURL: 'api.example.com' }, 'must be absolute http or https URLs'],
        [
          'a baseURL of another kind',
          { baseURL: 'data:text/plain,x' },
          'must be absolute http or https URLs',
        ],
        ['a baseURL that is a symbol', { baseURL: Symbol('x') }, 'must be absolute http or https URLs'],
        ['credentials in baseURL', { baseURL: 'https://user:password@api.example.com' }, /Leave them out\.$/],
        ['allowedOrigins of null', { baseURL, allowedOrigins: null }, /^`allowedOrigins` must be an array/],
        [
          'allowedOrigins in a text',
          { baseURL, allowedOrigins: baseURL },
          /^`allowedOrigins` must be an array/,
        ],
        ['an origin of null', { baseURL, allowedOrigins: [null] }, 'must be absolute http or https URLs'],
        [
          'an origin without a scheme',
          { baseURL, allowedOrigins: ['files.example.com'] },
          'must be absolute http or https URLs',
        ],
        ['a need of null', { baseURL, need: null }, /^The need of a token must be an object/],
        ['a need in a text', { baseURL, need: 'orders.read' }, /^The need of a token must be an object/],
        ['a need that is misspelt', { baseURL, need: { scopes: 'a' } }, 'Did you mean `scope`'],
        ...[true, false, 'once', 'Always', '', null, 1].map((replay): [string, unknown, RegExp] => [
          `a replay of ${JSON.stringify(replay)}`,
          { baseURL, replay },
          /^`replay` must be 'always', 'idempotent' or 'never', or left out\.$/,
        ]),
        ...[-1, 1.5, NaN, Infinity, '5', null, true].map((maxRedirects): [string, unknown, RegExp] => [
          `a maxRedirects of ${maxRedirects === null ? 'null' : `${typeof maxRedirects} ${maxRedirects}`}`,
          { baseURL, maxRedirects },
          /^`maxRedirects` must be a whole number from 0, e\.g\. maxRedirects: 5\.$/,
        ]),
      ])('refuses %s, and names the cure', async (_, config, cure) => {
        const made = at.inRequest(async (tokens) => driver.of(tokens, config as OutboundOptions))
        await expect(made).rejects.toThrow(ConfigurationError)
        await expect(made).rejects.toThrow(cure)
        await expect(made).rejects.not.toThrow('password@')
      })
    })

    describe('a URL', () => {
      it.each([
        ['', 'orders', '/orders'],
        ['', '/orders', '/orders'],
        ['/', '/orders', '/orders'],
        ['/v1', 'orders', '/v1/orders'],
        ['/v1', '/orders', '/v1/orders'],
        ['/v1/', 'orders', '/v1/orders'],
        ['/v1/', '/orders?a=b', '/v1/orders?a=b'],
        ['/v1', '', '/v1'],
        ['/v1', '?a=b', '/v1/?a=b'],
        ['/v1', 'orders/x:y', '/v1/orders/x:y'],
        ['/v1', 'x:y', '/v1/x:y'],
        ['/v1', '/größe a', '/v1/gr%C3%B6%C3%9Fe%20a'],
      ])('is appended to baseURL: %j and %j', async (path, url, sent) => {
        await calling((call) => call({ url }), { baseURL: at.api.url + path })
        expect(at.api.requests.map(({ path }) => path)).toEqual([sent])
      })

      it('that is absolute stands for itself', async () => {
        await calling((call) => call({ url: `${at.api.url}/orders` }), { baseURL: `${at.api.url}/v1` })
        expect(at.api.requests.map(({ path }) => path)).toEqual(['/orders'])
      })

      it('S63 of another origin is refused, and nothing is sent', async () => {
        const baseURL = 'https://api.example.com'
        await expect(calling((call) => call({ url: at.api.url }), { baseURL })).rejects.toMatchObject({
          code: 'ERR_ORIGIN_NOT_ALLOWED',
        })
        expect(at.api.requests).toEqual([])
        expect(at.refreshes()).toBe(0)
      })

      it('S63 of another origin that is named is called with the token', async () => {
        const options = { baseURL: 'https://api.example.com', allowedOrigins: [at.api.url] }
        await calling((call) => call({ url: `${at.api.url}/x` }), options)
        expect(at.authorizations()).toEqual([`Bearer ${await at.sessionToken()}`])
      })

      it.each(['//other.example/x', 'http://[/orders', 'ftp://other.example/x'])(
        'S63 %s is none: the message names it, and nothing is sent',
        async (url) => {
          const message = expect.stringMatching(/^The URL of the request /)
          const code = 'ERR_CONFIGURATION'
          await expect(calling((call) => call({ url }))).rejects.toMatchObject({ code, message })
          expect(at.api.requests).toEqual([])
        },
      )

      it('S70 with credentials is refused', async () => {
        const url = `${at.api.url.replace('//', '//user:password@')}/orders`
        await expect(calling((call) => call({ url }))).rejects.toMatchObject({ code: 'ERR_CONFIGURATION' })
        expect(at.api.requests).toEqual([])
      })
    })

    it.each(['Authorization', 'authorization', 'AUTHORIZATION'])(
      'S70 the token displaces the %s header of the app',
      async (name) => {
        await calling((call) => call({ url: '/', headers: { [name]: 'Basic x', 'X-Trace': 'trace' } }))
        expect(at.authorizations()).toEqual([`Bearer ${await at.sessionToken()}`])
        expect(at.api.requests[0]!.headers['x-trace']).toBe('trace')
      },
    )

    describe('when the API refuses the token', () => {
      it('S70 one refresh and one replay', async () => {
        const first = await at.refuseThePresentToken()
        const { status, text } = await calling((call) =>
          call({ url: '/orders', headers: { 'x-trace': 'a' } }),
        )
        expect([status, text]).toEqual([200, '{"orders":[]}'])
        const second = await at.sessionToken()
        expect(second).not.toBe(first)
        expect(at.authorizations()).toEqual([`Bearer ${first}`, `Bearer ${second}`])
        expect(at.api.requests.map(({ headers }) => headers['x-trace'])).toEqual(['a', 'a'])
        expect(at.refreshes()).toBe(1)
      })

      it('S70 S18 twenty calls at once: one refresh', async () => {
        await at.refuseThePresentToken()
        const answers = await calling((call) =>
          Promise.all(Array.from({ length: 20 }, () => call({ url: '/orders' }))),
        )
        expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(200))
        expect(at.refreshes()).toBe(1)
        expect(at.server.reuses()).toBe(0)
      })

      it('S70 a second 401 is passed on as it is', async () => {
        at.accepted = () => false
        const { status, text } = await calling((call) => call({ url: '/orders' }))
        expect([status, text]).toEqual([401, '{"why":"token"}'])
        expect(at.api.requests).toHaveLength(2)
        expect(at.refreshes()).toBe(1)
      })

      it.each<[string, string]>([
        ['no header', ''],
        ['Bearer without an error', 'Bearer realm="api"'],
        ['a challenge of another scheme before it', 'Basic realm="x", Bearer error=invalid_token'],
      ])('S70 %s: one refresh and one replay', async (_, challenge) => {
        await at.refuseThePresentToken()
        at.refuseWith(challenge)
        expect((await calling((call) => call({ url: '/orders' }))).status).toBe(200)
        expect([at.api.requests.length, at.refreshes()]).toEqual([2, 1])
      })

      it('S70 several headers are read as one', async () => {
        at.accepted = () => false
        at.refused = (_request, response) => {
          response.setHeader('www-authenticate', ['Basic realm="x"', 'Bearer error="insufficient_scope"'])
          response.writeHead(401).end()
        }
        expect((await calling((call) => call({ url: '/orders' }))).status).toBe(401)
        expect([at.api.requests.length, at.refreshes()]).toEqual([1, 0])
      })

      it.each<[string, number, string]>([
        ['403', 403, ''],
        ['403 that says invalid_token', 403, 'Bearer error="invalid_token"'],
        ['401 with insufficient_scope', 401, 'Bearer error="insufficient_scope", scope="a"'],
        ['401 with an error that nobody knows', 401, 'Bearer error="out_of_order"'],
        ['500', 500, ''],
      ])('S70 %s never refreshes, is not repeated, and is passed on', async (_, status, challenge) => {
        at.accepted = () => false
        at.refuseWith(challenge, status)
        const answer = await calling((call) => call({ url: '/orders' }))
        expect([answer.status, answer.text]).toEqual([status, '{"why":"token"}'])
        expect([at.api.requests.length, at.refreshes()]).toEqual([1, 0])
      })

      it('S70 the refresh fails: the call fails with that, and is not repeated', async () => {
        await at.refuseThePresentToken()
        at.server.failNext(500)
        await expect(calling((call) => call({ url: '/orders' }))).rejects.toMatchObject({
          code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
          retryable: true,
        })
        expect(at.api.requests).toHaveLength(1)
        at.site.clock.advance(1_000)
        expect((await calling((call) => call({ url: '/orders' }))).status).toBe(200)
      })

      it('S70 the grant is dead: the call fails with that', async () => {
        await at.refuseThePresentToken()
        at.server.failNext('invalid_grant')
        const code = 'ERR_REAUTHENTICATION_REQUIRED'
        await expect(calling((call) => call({ url: '/orders' }))).rejects.toMatchObject({ code })
        expect(at.api.requests).toHaveLength(1)
      })
    })

    describe('when the API wants a stronger login (RFC 9470)', () => {
      const stepUp = { name: 'StepUpError', code: 'ERR_STEP_UP_REQUIRED', acrValues: 'mfa phr', maxAge: 300 }

      it('S70 the call fails with what it wants, and nothing is refreshed', async () => {
        at.accepted = () => false
        at.refuseWith(STEP_UP)
        const call = calling((call) => call({ url: '/orders' }))
        await expect(call).rejects.toBeInstanceOf(StepUpError)
        await expect(call).rejects.toMatchObject({ ...stepUp, status: 401, expose: false, retryable: false })
        expect([at.api.requests.length, at.refreshes()]).toEqual([1, 0])
      })

      it.each(driver.onceOnly)('S70 whatever the body is: %s', async (_, body) => {
        at.accepted = () => false
        at.refuseWith(STEP_UP)
        await expect(
          calling((call) => call({ url: '/orders', method: 'POST', body: body() })),
        ).rejects.toMatchObject(stepUp)
      })

      it('S70 after the replay too', async () => {
        await at.refuseThePresentToken()
        at.answer = (_request, response) => json(response, {}, 401, { 'www-authenticate': STEP_UP })
        await expect(calling((call) => call({ url: '/orders' }))).rejects.toMatchObject(stepUp)
        expect([at.api.requests.length, at.refreshes()]).toEqual([2, 1])
      })

      it('S60 it shows no token, though the API quotes it', async () => {
        at.accepted = () => false
        at.refused = ({ headers }, response) => {
          const challenge = `${STEP_UP}, scope="a ${headers.authorization}"`
          json(response, headers, 401, { 'www-authenticate': challenge })
        }
        const error = await calling((call) => call({ url: '/orders' })).catch((error: unknown) => error)
        expect(error).toMatchObject({ scope: 'a Bearer [redacted]' })
        expect(at.leaks(error)).toEqual([])
      })
    })

    describe('replay', () => {
      const methods = ['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'POST', 'PATCH']
      const idempotent = methods.slice(0, 5)
      const rows: [Replay | undefined, string, boolean][] = methods.flatMap((method) => [
        [undefined, method, true],
        ['always', method, true],
        ['idempotent', method, idempotent.includes(method)],
        ['never', method, false],
      ])

      it.each(rows)('S70 %s: a %s is sent again: %p, and the next call has another token', async (...row) => {
        const [replay, method, isReplayed] = row
        const options = replay ? { replay } : {}
        const first = await at.refuseThePresentToken()
        const { status } = await calling((call) => call({ url: '/orders', method }), options)
        expect(status).toBe(isReplayed ? 200 : 401)
        expect(at.api.requests.map(({ method }) => method)).toEqual(Array(isReplayed ? 2 : 1).fill(method))
        expect((await calling((call) => call({ url: '/orders', method }), options)).status).toBe(200)
        const second = await at.sessionToken()
        expect(second).not.toBe(first)
        expect(at.authorizations().at(-1)).toBe(`Bearer ${second}`)
        expect(at.refreshes()).toBe(1)
      })

      it('S70 idempotent, in lower case', async () => {
        await at.refuseThePresentToken()
        const answers = [
          await calling((call) => call({ url: '/', method: 'post' }), { replay: 'idempotent' }),
          await calling((call) => call({ url: '/', method: 'get' }), { replay: 'idempotent' }),
        ]
        expect(answers.map(({ status }) => status)).toEqual([401, 200])
      })

      it('S70 never: the 401 is passed on, though the refresh fails', async () => {
        await at.refuseThePresentToken()
        at.server.failNext(500)
        const { status, text } = await calling((call) => call({ url: '/' }), { replay: 'never' })
        expect([status, text]).toEqual([401, '{"why":"token"}'])
        expect(at.api.requests).toHaveLength(1)
      })
    })

    describe('bodies', () => {
      const form = () => {
        const form = new FormData()
        form.append('name', 'größe')
        form.append('file', new Blob(['content of the file']), 'file.txt')
        return form
      }
      const withoutBoundary = ({ headers, body }: WireRequest) => {
        const [, boundary = 'none'] = /boundary=(.+)$/.exec(headers['content-type'] ?? '') ?? []
        return body.replaceAll(boundary, 'boundary')
      }

      it.each<[string, () => unknown, string | RegExp]>([
        ['text', () => 'größe', 'größe'],
        ['URLSearchParams', () => new URLSearchParams({ item: 'a b&c' }), 'item=a+b%26c'],
        ['a buffer', () => Buffer.from('bytes'), 'bytes'],
        ['a part of a buffer', () => Buffer.from('some bytes').subarray(5), 'bytes'],
        ['an ArrayBuffer', () => new TextEncoder().encode('bytes').buffer, 'bytes'],
        ['a Blob', () => new Blob(['bytes'], { type: 'text/plain' }), 'bytes'],
        [
          'FormData',
          form,
          /name="name"\r\n\r\ngröße\r\n--boundary\r\n.*filename="file.txt"[\s\S]*content of the file\r\n--boundary--/,
        ],
      ])('S70 S71 %s is sent, and replayed', async (_, body, sent) => {
        await at.refuseThePresentToken()
        const { status } = await calling((call) => call({ url: '/', method: 'POST', body: body() }))
        expect(status).toBe(200)
        const [first, second] = at.api.requests
        expect(withoutBoundary(first!)).toEqual(typeof sent === 'string' ? sent : expect.stringMatching(sent))
        expect(withoutBoundary(second!)).toBe(withoutBoundary(first!))
        expect(at.api.requests).toHaveLength(2)
        const typeOf = ({ headers }: WireRequest) => headers['content-type']?.replace(/boundary=.*/, '')
        expect(typeOf(second!)).toBe(typeOf(first!))
      })

      it.each(driver.onceOnly)('S70 S71 %s is sent, and not replayed', async (_, body) => {
        const send = () => calling((call) => call({ url: '/', method: 'POST', body: body() }))
        expect((await send()).status).toBe(200)
        await at.refuseThePresentToken()
        const { status, text } = await send()
        expect([status, text]).toEqual([401, '{"why":"token"}'])
        expect(at.api.requests.map(({ body }) => body)).toEqual(['one two', 'one two'])
        // Who sends it again does so with another token.
        expect(at.refreshes()).toBe(1)
        expect((await send()).status).toBe(200)
        expect(at.refreshes()).toBe(1)
      })
    })

    describe('the policy of the route', () => {
      const inRoute = <T>(user: 'required' | 'optional' | 'none', work: (call: OutboundCall) => Promise<T>) =>
        at.inRoute(user, (tokens) => work(driver.of(tokens, { baseURL: at.api.url })))
      const get = (call: OutboundCall) => call({ url: '/orders', headers: { authorization: 'Basic x' } })

      it.each(['required', 'optional'] as const)('%s: the token of who is logged in', async (user) => {
        await at.refuseThePresentToken()
        expect((await inRoute(user, get)).status).toBe(200)
        expect(at.authorizations().at(-1)).toBe(`Bearer ${await at.sessionToken()}`)
        expect([at.api.requests.length, at.refreshes()]).toEqual([2, 1])
      })

      it('optional: no token when nobody is logged in, and a 401 is passed on as it is', async () => {
        at.browser = at.site.browser()
        expect((await inRoute('optional', get)).status).toBe(200)
        at.accepted = () => false
        const { status, text } = await inRoute('optional', get)
        expect([status, text]).toEqual([401, '{"why":"token"}'])
        expect(at.authorizations()).toEqual([undefined, undefined])
        expect(at.refreshes()).toBe(0)
      })

      it('optional: even a 401 that wants a stronger login, as nobody is there to log in again', async () => {
        at.browser = at.site.browser()
        at.accepted = () => false
        at.refuseWith(STEP_UP)
        expect((await inRoute('optional', get)).status).toBe(401)
      })

      it('none: never a token, and a 401 is passed on as it is', async () => {
        expect((await inRoute('none', get)).status).toBe(200)
        at.accepted = () => false
        const { status, text } = await inRoute('none', get)
        expect([status, text]).toEqual([401, '{"why":"token"}'])
        expect(at.authorizations()).toEqual([undefined, undefined])
        expect(at.refreshes()).toBe(0)
      })

      it('S63 none: the origins are those that were named all the same', async () => {
        const call = inRoute('none', (call) => call({ url: 'http://127.0.0.1:9/' }))
        await expect(call).rejects.toMatchObject({ code: 'ERR_ORIGIN_NOT_ALLOWED' })
      })

      it('S40 optional, and the authorization server is down: an error, and no call without a token', async () => {
        at.site.clock.advance(HOUR_MS)
        at.server.failNext(503)
        const code = 'ERR_TOKEN_ENDPOINT_UNAVAILABLE'
        await expect(inRoute('optional', get)).rejects.toMatchObject({ code })
        expect(at.api.requests).toEqual([])
      })

      it('S40 optional, and it goes down behind the guard: the same', async () => {
        const call = inRoute('optional', async (call) => {
          at.site.clock.advance(HOUR_MS)
          at.server.failNext(503)
          return get(call)
        })
        await expect(call).rejects.toMatchObject({ code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE', status: 503 })
        expect(at.api.requests).toEqual([])
      })

      it('S70 optional, and the API refuses the token of a grant that is dead: nobody is logged in', async () => {
        const present = await at.sessionToken()
        at.accepted = (token) => token !== present
        at.server.failNext('invalid_grant')
        expect((await inRoute('optional', get)).status).toBe(200)
        expect(at.authorizations()).toEqual([`Bearer ${present}`, undefined])
      })
    })

    describe('a caller that leaves', () => {
      async function aborted(call: Promise<unknown>, { signal }: AbortController): Promise<void> {
        const error = await call.then(
          () => 'an answer',
          (error: unknown) => error,
        )
        expect(driver.isAborted(error, signal)).toBe(true)
      }

      it('S71 before: nothing is sent, and nothing refreshed', async () => {
        const leaving = new AbortController()
        leaving.abort(new Error('left'))
        at.site.clock.advance(HOUR_MS)
        await aborted(
          calling((call) => call({ url: '/orders', signal: leaving.signal })),
          leaving,
        )
        await at.site.mounted.manager.close()
        expect([at.api.requests.length, at.refreshes()]).toEqual([0, 0])
      })

      it('S71 while the API works', async () => {
        const gate = createGate()
        at.answer = async (_request, response) => {
          await gate.pass()
          json(response, {})
        }
        const leaving = new AbortController()
        const call = calling((call) => call({ url: '/orders', signal: leaving.signal }))
        const left = aborted(call, leaving)
        await gate.reached
        leaving.abort()
        await left
        gate.release()
      })

      it.each([
        ['the first', () => at.site.clock.advance(HOUR_MS), 0],
        ['the one after a 401', () => at.refuseThePresentToken(), 1],
      ])('S71 S26 during the refresh, %s: it goes at once, the refresh is kept', async (_, spoil, sent) => {
        await spoil()
        const held = at.server.holdAnswer()
        const leaving = new AbortController()
        const call = calling((call) => call({ url: '/orders', signal: leaving.signal }))
        const left = aborted(call, leaving)
        await held.reached
        leaving.abort()
        const first = await Promise.race([left.then(() => 'caller'), turns(100).then(() => 'nobody')])
        held.release()
        expect(first).toBe('caller')
        await at.site.mounted.manager.close()
        expect((await at.site.storedTokens(at.browser))?.revision).toBe(2)
        expect(at.api.requests).toHaveLength(sent)
      })

      it('S71 a signal that outlives the wait for tokens is not held on to', async () => {
        at.browser = at.site.browser()
        const { signal } = new AbortController()
        for (let count = 0; count < 3; count++) {
          await expect(calling((call) => call({ url: '/', signal }))).rejects.toMatchObject({
            code: 'ERR_NO_TOKENS',
          })
        }
        expect(getEventListeners(signal, 'abort')).toEqual([])
      })
    })

    describe('S60 what comes back shows no token', () => {
      it('an answer', async () => {
        await at.refuseThePresentToken()
        const { raw } = await calling((call) => call({ url: '/', method: 'POST', body: 'text' }))
        expect(at.leaks(raw)).toEqual([])
      })

      it.each([401, 403, 500, 302])('an answer of %i', async (status) => {
        at.accepted = () => false
        at.refuseWith('', status)
        const { raw } = await calling((call) => call({ url: '/' }))
        expect(at.leaks(raw)).toEqual([])
      })

      it.each<[string, WireAnswer]>([
        ['that hangs up', ({ socket }) => socket?.destroy()],
        ['that is none of HTTP', ({ socket }) => socket?.end('HTTP/1.1 what\r\n\r\n')],
        ['that redirects for ever', (response) => response.writeHead(307, { location: '/' }).end()],
        ['that redirects to nowhere', (response) => response.writeHead(307, { location: 'x://y' }).end()],
        ['that redirects to no URL', (response) => response.writeHead(307, { location: 'http://[' }).end()],
        [
          'that breaks off',
          (response) => response.writeHead(200, { 'content-length': 9 }).write('x', () => response.destroy()),
        ],
      ])('an answer %s', async (_, answer) => {
        at.answer = (_request, response) => answer(response)
        const call = calling((call) => call({ url: '/orders', headers: { cookie: 'a=b' } }))
        const error = await call.then(
          () => 'an answer',
          (error: unknown) => error,
        )
        expect(error).toMatchObject({ message: expect.any(String) })
        expect(error).not.toBeInstanceOf(TokenError)
        expect(at.leaks(error)).toEqual([])
      })

      it('a server that is down', async () => {
        await calling((call) => call({ url: '/' }))
        const options = { baseURL: 'http://127.0.0.1:1' }
        const error = await calling((call) => call({ url: '/' }), options).catch((error: unknown) => error)
        expect(error).toMatchObject({ message: expect.any(String) })
        expect(at.leaks(error)).toEqual([])
      })
    })
  })
}

type WireAnswer = (response: Parameters<typeof json>[0]) => unknown

/** So many turns of the event loop. */
async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await setImmediate()
}

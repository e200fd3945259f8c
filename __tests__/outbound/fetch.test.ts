import { getEventListeners, getMaxListeners } from 'node:events'
import { inspect } from 'node:util'
import { describe, expect, it } from '@jest/globals'
import { Request as UndiciRequest } from 'undici'
import { ConfigurationError, type OutboundOptions } from '../../lib/index.js'
import { HOUR_MS, OutboundSite } from '../helpers/outbound-site.js'

const at = new OutboundSite()

type Fetch = typeof fetch

const calling = <T>(work: (call: Fetch) => Promise<T>, options: Partial<OutboundOptions> = {}) =>
  at.inRequest((tokens) => work(tokens.fetch({ baseURL: at.api.url, ...options })))

/** The API answers a path of `/redirect` with a redirect to the end. */
function redirecting(status = 302): void {
  at.answer = ({ path }, response) =>
    path === '/redirect'
      ? response.writeHead(status, { location: '/end?a=b' }).end()
      : response.end('the end')
}

describe('options', () => {
  it.each<[object, string]>([
    [{ baseUrl: 'https://api.example.com' }, 'fetch() has no option `baseUrl`. Did you mean `baseURL`?'],
    [{ headers: {} }, 'fetch() has no option `headers`. Known are baseURL, '],
    [{ maxRedirect: 1 }, 'Did you mean `maxRedirects`?'],
    [{ constructor: 1 }, 'fetch() has no option `constructor`'],
  ])('%j is refused, and the cure named', async (options, message) => {
    const made = calling(async () => {}, options)
    await expect(made).rejects.toThrow(ConfigurationError)
    await expect(made).rejects.toThrow(message)
  })
})

describe('what is asked for', () => {
  const url = () => `${at.api.url}/orders`

  it.each<[string, () => Parameters<Fetch>]>([
    ['a text', () => ['/orders']],
    ['a text that is absolute', () => [url()]],
    ['a URL', () => [new URL(url())]],
    ['a URL with a fragment', () => [`${url()}#here`]],
    ['a Request', () => [new Request(url())]],
    ['a Request with options', () => [new Request(`${at.api.url}/orders`), {}]],
    ['no options', () => ['/orders', undefined]],
    ['null for options', () => ['/orders', null as never]],
    ['a Request for options', () => ['/orders', new Request('http://other.example/')]],
  ])('%s', async (_, args) => {
    const response = await calling((call) => call(...args()))
    expect(await response.json()).toEqual({ orders: [] })
    expect([response.url, response.redirected]).toEqual([url(), false])
    expect(at.api.requests).toMatchObject([{ method: 'GET', path: '/orders' }])
    expect(at.authorizations()).toEqual([`Bearer ${await at.sessionToken()}`])
  })

  it('S63 a Request to another origin is refused', async () => {
    const call = calling((call) => call(new Request('http://127.0.0.1:9/')))
    await expect(call).rejects.toMatchObject({ code: 'ERR_ORIGIN_NOT_ALLOWED' })
  })

  it.each<[string, () => unknown]>([
    ['a Request of undici', () => new UndiciRequest(url(), { method: 'DELETE' })],
    ['an object', () => ({ url: url() })],
  ])('%s is an error: it would be sent as a GET of another path', async (_, input) => {
    await expect(calling((call) => call(input() as never))).rejects.toThrow(ConfigurationError)
    expect(at.api.requests).toEqual([])
  })

  it('a Request says what the options leave open', async () => {
    const request = () =>
      new Request(url(), {
        method: 'PUT',
        headers: { 'x-trace': 'request', authorization: 'Basic x' },
        body: 'a',
      })
    await calling(async (call) => {
      await call(request())
      await call(request(), { headers: { 'x-trace': 'options' } })
      await call(request(), { method: 'POST', body: 'b' })
      await call(url(), request())
    })
    expect(at.api.requests.map(({ method, headers, body }) => [method, headers['x-trace'], body])).toEqual([
      ['PUT', 'request', 'a'],
      ['PUT', 'options', 'a'],
      ['POST', 'request', 'b'],
      ['PUT', 'request', 'a'],
    ])
    expect(new Set(at.authorizations())).toEqual(new Set([`Bearer ${await at.sessionToken()}`]))
  })

  it.each<[string, () => HeadersInit]>([
    ['an object', () => ({ 'X-Trace': 'a', Authorization: 'Basic x' })],
    [
      'pairs',
      () => [
        ['x-trace', 'a'],
        ['authorization', 'Basic x'],
      ],
    ],
    ['Headers', () => new Headers({ 'x-trace': 'a', authorization: 'Basic x' })],
  ])('headers in %s, which stay as they are', async (_, headers) => {
    const given = headers()
    const before = inspect(given)
    await at.refuseThePresentToken()
    await calling((call) => call('/', { headers: given }))
    expect(at.api.requests.map(({ headers }) => headers['x-trace'])).toEqual(['a', 'a'])
    expect(at.authorizations().at(-1)).toBe(`Bearer ${await at.sessionToken()}`)
    expect(inspect(given)).toBe(before)
  })

  it('no headers but those of the platform', async () => {
    const bare = async (send: (url: string, init: RequestInit) => Promise<unknown>) => {
      for (const init of [{}, { method: 'POST', body: '{}' }]) await send(url(), init)
      return at.api.requests.splice(0).map(({ headers: { authorization, ...rest } }) => rest)
    }
    const platform = await bare(fetch)
    expect(await calling((call) => bare(call))).toEqual(platform)
  })

  it('what the platform refuses is refused as there', async () => {
    const get = { method: 'GET', body: 'x' }
    const error = await fetch(url(), get).catch((error: Error) => error)
    const call = calling((call) => call('/orders', get))
    await expect(call).rejects.toMatchObject({ name: 'TypeError', message: (error as Error).message })
    expect(at.api.requests).toEqual([])
  })

  it('what it was when it was called, whatever becomes of it while a token is waited for', async () => {
    at.site.clock.advance(HOUR_MS)
    const held = at.server.holdAnswer()
    const headers = new Headers({ 'x-trace': 'before' })
    const parameters = new URLSearchParams({ name: 'before' })
    const form = new FormData()
    form.append('name', new Blob(['before']), 'before.txt')
    const bytes = Buffer.from('some before').subarray(5)
    const buffer = new TextEncoder().encode('before').buffer
    const sent = calling((call) => {
      const bodies = [parameters, form, bytes, buffer]
      const calls = bodies.map((body) => call('/', { method: 'POST', headers, body }))
      headers.set('x-trace', 'after')
      parameters.set('name', 'after')
      form.set('name', 'after')
      bytes.fill(0)
      new Uint8Array(buffer).fill(0)
      return Promise.all(calls)
    })
    await held.reached
    held.release()
    await sent
    const received = at.api.requests.map(({ body }) => body)
    const before = [/^name=before$/, /filename="before\.txt"[\s\S]*\r\nbefore\r\n--/, /^before$/, /^before$/]
    for (const body of before) expect(received).toContainEqual(expect.stringMatching(body))
    expect(at.api.requests.map(({ headers }) => headers['x-trace'])).toEqual(Array(4).fill('before'))
  })

  it('S70 the body of a Request is sent, and not replayed', async () => {
    await at.refuseThePresentToken()
    const request = new Request(url(), { method: 'POST', body: 'once' })
    expect((await calling((call) => call(request))).status).toBe(401)
    expect(request.bodyUsed).toBe(true)
    expect(at.api.requests.map(({ body }) => body)).toEqual(['once'])
  })

  it('S70 a Request whose body the options replace is replayed', async () => {
    await at.refuseThePresentToken()
    const request = new Request(url(), { method: 'POST', body: 'once' })
    expect((await calling((call) => call(request, { body: 'more' }))).status).toBe(200)
    expect(at.api.requests.map(({ body }) => body)).toEqual(['more', 'more'])
  })

  it('S70 a Request without a body is replayed', async () => {
    await at.refuseThePresentToken()
    expect((await calling((call) => call(new Request(url())))).status).toBe(200)
    expect(at.api.requests).toHaveLength(2)
  })
})

describe('redirect', () => {
  it('follow: the response says where it comes from, and so does its clone', async () => {
    redirecting()
    const response = await calling((call) => call('/redirect'))
    const clone = response.clone()
    for (const each of [response, clone, clone.clone()]) {
      expect([each.status, each.url, each.redirected]).toEqual([200, `${at.api.url}/end?a=b`, true])
      expect(each).toBeInstanceOf(Response)
    }
    expect([await response.text(), await clone.text()]).toEqual(['the end', 'the end'])
  })

  it.each([
    ['among the options', (call: Fetch) => call('/redirect', { redirect: 'manual' })],
    ['in a Request', (call: Fetch) => call(new Request(`${at.api.url}/redirect`, { redirect: 'manual' }))],
  ])('manual, %s: the redirect is the answer', async (_, send) => {
    redirecting()
    const { status, headers, redirected } = await calling(send)
    expect([status, headers.get('location'), redirected]).toEqual([302, '/end?a=b', false])
    expect(at.api.requests).toHaveLength(1)
  })

  it('error: the call fails as on the platform', async () => {
    redirecting()
    const error = await calling((call) => call('/redirect', { redirect: 'error' })).catch((error) => error)
    expect(error).toMatchObject({ name: 'TypeError', cause: { message: 'unexpected redirect' } })
    expect(at.api.requests).toHaveLength(1)
    expect(at.leaks(error)).toEqual([])
  })

  it('error: what is no redirect is the answer', async () => {
    expect((await calling((call) => call('/orders', { redirect: 'error' }))).status).toBe(200)
  })

  it('S71 FormData goes along with a boundary of its own', async () => {
    redirecting(307)
    const body = new FormData()
    body.append('name', 'value')
    await calling((call) => call('/redirect', { method: 'POST', body }))
    for (const { headers, body } of at.api.requests) {
      const [, boundary] = /boundary=(.+)$/.exec(headers['content-type'] ?? '') ?? []
      expect(body.startsWith(`--${boundary}\r\n`)).toBe(true)
    }
    expect(at.api.requests).toHaveLength(2)
  })

  it('S70 a 401 behind a redirect: the call is sent again from its start', async () => {
    const present = await at.sessionToken()
    at.answer = ({ path, headers }, response) => {
      if (path === '/redirect') return response.writeHead(307, { location: '/end' }).end()
      const isRefused = headers.authorization === `Bearer ${present}`
      return response.writeHead(isRefused ? 401 : 200).end()
    }
    const { status, redirected } = await calling((call) => call('/redirect', { method: 'POST', body: 'a' }))
    expect([status, redirected]).toEqual([200, true])
    expect(at.api.requests.map(({ path, body }) => path + body)).toEqual([
      '/redirecta',
      '/enda',
      '/redirecta',
      '/enda',
    ])
  })
})

describe('a signal', () => {
  it('among the options goes before that of a Request, and null stands for none', async () => {
    const request = () =>
      new Request(`${at.api.url}/orders`, { signal: AbortSignal.abort(new Error('left')) })
    await expect(calling((call) => call(request()))).rejects.toThrow('left')
    expect(at.api.requests).toEqual([])
    expect((await calling((call) => call(request(), { signal: null }))).status).toBe(200)
    const { signal } = new AbortController()
    expect((await calling((call) => call(request(), { signal }))).status).toBe(200)
  })

  it('for more calls at once than Node expects is no reason for a warning', async () => {
    at.site.clock.advance(HOUR_MS)
    const held = at.server.holdAnswer()
    const { signal } = new AbortController()
    const calls = calling((call) => Promise.all(Array.from({ length: 20 }, () => call('/', { signal }))))
    await held.reached
    const listeners = getEventListeners(signal, 'abort')
    // 0 is no limit: Node sets none for signals from version 22 on.
    const most = getMaxListeners(signal) || Number.POSITIVE_INFINITY
    held.release()
    await calls
    expect(listeners).toHaveLength(20)
    expect(most).toBeGreaterThan(20)
  })

  it('S71 that is aborted while the answer is read ends it, as on the platform', async () => {
    at.answer = (_request, response) => response.writeHead(200).write('the beginning')
    const leave = async (call: Fetch) => {
      const leaving = new AbortController()
      const response = await call(`${at.api.url}/orders`, { signal: leaving.signal })
      leaving.abort(new Error('left'))
      return response.text().catch((error: Error) => [error.name, error.message])
    }
    expect(await calling(leave)).toEqual(await leave(fetch))
    expect(await calling(leave)).toEqual([expect.any(String), expect.any(String)])
  })

  it('S71 of AbortSignal.timeout() ends the wait for the refresh', async () => {
    at.site.clock.advance(HOUR_MS)
    const held = at.server.holdAnswer()
    const call = calling((call) => call('/orders', { signal: AbortSignal.timeout(1) }))
    await expect(call).rejects.toMatchObject({ name: 'TimeoutError' })
    held.release()
  })
})

describe('S60 an error shows no token', () => {
  /** A dispatcher of the app's that fails with what it was given to send. */
  const dispatcher = (fail: (options: { headers: unknown }) => unknown) =>
    ({ dispatcher: { dispatch: (options: { headers: unknown }) => fail(options) } }) as RequestInit

  it.each<[string, (headers: unknown) => unknown]>([
    ['message', (headers) => new Error(`not sent: ${JSON.stringify(headers)}`)],
    ['property', (headers) => Object.assign(new Error('not sent'), { request: { headers } })],
    ['cause', (headers) => new Error('not sent', { cause: { deep: [headers] } })],
  ])('in a %s of a dispatcher of the app’s', async (_, failure) => {
    const sent: unknown[] = []
    const init = dispatcher(({ headers }) => {
      sent.push(headers)
      throw failure(headers)
    })
    const error = await calling((call) => call('/orders', init)).catch((error: unknown) => error)
    const token = await at.sessionToken()
    expect(inspect(sent, { depth: 5 })).toContain(token)
    expect(error).toMatchObject({ name: 'TypeError', message: 'fetch failed' })
    expect((error as { cause: Error }).cause.message).toMatch(/^not sent/)
    expect(inspect(error, { depth: 20, showHidden: true })).not.toContain(token)
  })

  it('and what a dispatcher says else is there to be seen', async () => {
    const cause = Object.assign(new Error('not today'), { code: 'E_OWN' })
    const init = dispatcher(() => {
      throw cause
    })
    await expect(calling((call) => call('/orders', init))).rejects.toMatchObject({ cause })
  })
})

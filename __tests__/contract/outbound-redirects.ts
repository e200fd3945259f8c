import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import type { OutboundOptions } from '../../lib/index.js'
import type { TokenNeed } from '../../lib/tokens/token-need.js'
import { json, type WireServer, wireServer } from '../helpers/wire-server.js'
import type { OutboundClientDriver } from './outbound-client-driver.js'

/** How the calls of every client follow redirects, and where the token goes along. */
export function describeOutboundRedirects(driver: OutboundClientDriver): void {
  describe(`a redirect, ${driver.name}`, () => {
    let api: WireServer
    let other: WireServer
    let needs: TokenNeed[]
    /** What the other origin answers. */
    let otherStatus: number
    /** Where the other origin leads back to. */
    let back: string
    /** The authorization that the API refuses. */
    let refused: string

    beforeEach(async () => {
      needs = []
      otherStatus = 200
      refused = ''
      other = await wireServer(({ path }, response) => {
        if (path.endsWith('/back')) return response.writeHead(307, { location: back }).end()
        return json(response, { from: 'other' }, otherStatus)
      })
      // /307/other leads to the other origin, /307/loop to itself, any other name to a path of the API.
      api = await wireServer(({ path, headers }, response) => {
        if (path === '/401' || headers.authorization === refused) return response.writeHead(401).end()
        const [, status, target] = /^\/(3\d\d)\/(.+)$/.exec(path) ?? []
        if (!status) return json(response, { from: 'api' })
        const location = target?.startsWith('other') ? `${other.url}/${target}` : `/${target}`
        return response
          .writeHead(Number(status), { location: target === 'loop' ? path : location })
          .end('moved')
      })
      back = `${api.url}/end`
    })
    afterEach(() => Promise.all([api.close(), other.close()]))

    const source = {
      async tokenToSend(need: TokenNeed = {}) {
        needs.push(need)
        return { token: `token${needs.length}`, tokenType: 'Bearer', expiresAt: Number.MAX_SAFE_INTEGER }
      },
      secrets: () => [],
    }
    const caller = (options: Partial<OutboundOptions> = {}) =>
      driver.over(source, { baseURL: api.url, ...options })
    const sent = ({ requests }: WireServer) =>
      requests.map(({ method, body, headers }) => [
        method,
        body,
        headers['content-type'],
        headers.authorization,
      ])

    it.each([
      [301, 'POST', 'GET'],
      [302, 'POST', 'GET'],
      [303, 'POST', 'GET'],
      [303, 'PUT', 'GET'],
      [303, 'DELETE', 'GET'],
      [301, 'PUT', 'PUT'],
      [302, 'PUT', 'PUT'],
      [302, 'DELETE', 'DELETE'],
      [307, 'POST', 'POST'],
      [308, 'POST', 'POST'],
      [307, 'PUT', 'PUT'],
    ])('%d of %s is followed with %s', async (status, method, followed) => {
      const headers = { 'content-type': 'text/x', 'content-language': 'de', 'x-trace': 'a' }
      const answer = await caller()({ url: `/${status}/end`, method, headers, body: 'body' })
      expect([answer.status, answer.text, answer.url]).toEqual([200, '{"from":"api"}', `${api.url}/end`])
      const keepsBody = followed === method
      expect(sent(api)).toEqual([
        [method, 'body', 'text/x', 'Bearer token1'],
        [followed, keepsBody ? 'body' : '', keepsBody ? 'text/x' : undefined, 'Bearer token1'],
      ])
      const [, { headers: received }] = api.requests as [unknown, WireServer['requests'][0]]
      expect([received['content-language'], received['x-trace']]).toEqual([keepsBody ? 'de' : undefined, 'a'])
    })

    it.each([301, 302, 303, 307, 308])('%d of GET and of HEAD keeps the method', async (status) => {
      for (const method of ['GET', 'HEAD']) await caller()({ url: `/${status}/end`, method })
      expect(api.requests.map(({ method }) => method)).toEqual(['GET', 'GET', 'HEAD', 'HEAD'])
    })

    it.each([300, 304, 305, 306, 309])('%d is none', async (status) => {
      expect((await caller()({ url: `/${status}/end` })).status).toBe(status)
      expect(api.requests).toHaveLength(1)
    })

    it('without a Location is none', async () => {
      const plain = await wireServer((_request, response) => response.writeHead(302).end())
      const { status } = await driver.over(source, { baseURL: plain.url })({ url: '/' })
      await plain.close()
      expect(status).toBe(302)
    })

    it.each(driver.onceOnly)('is passed on when it asks for the body again: %s', async (_, body) => {
      const answer = await caller()({ url: '/307/end', method: 'POST', body: body() })
      expect([answer.status, answer.text]).toEqual([307, 'moved'])
      expect(api.requests).toHaveLength(1)
    })

    it.each(driver.onceOnly)('is followed when the body stays behind: %s', async (_, body) => {
      const answer = await caller()({ url: '/303/end', method: 'POST', body: body() })
      expect([answer.status, answer.url]).toEqual([200, `${api.url}/end`])
      expect(api.requests.map(({ body }) => body)).toEqual(['one two', ''])
    })

    it.each([
      [undefined, 6],
      [2, 3],
      [1, 2],
    ])('is followed so often: maxRedirects %s', async (maxRedirects, requests) => {
      const call = caller(maxRedirects === undefined ? {} : { maxRedirects })({ url: '/302/loop' })
      await expect(call).rejects.toMatchObject(driver.tooManyRedirects)
      expect(api.requests).toHaveLength(requests)
    })

    it('is followed as often as maxRedirects says', async () => {
      expect((await caller({ maxRedirects: 2 })({ url: '/302/302/end' })).status).toBe(200)
      expect(api.requests).toHaveLength(3)
    })

    it('is not followed with maxRedirects 0', async () => {
      const { status, url } = await caller({ maxRedirects: 0 })({ url: '/302/end' })
      expect([status, url]).toEqual([302, `${api.url}/302/end`])
      expect(api.requests).toHaveLength(1)
    })

    it('S63 takes the token along to allowedOrigins', async () => {
      await caller({ allowedOrigins: [other.url] })({ url: '/302/other' })
      expect(other.requests[0]!.headers.authorization).toBe('Bearer token1')
    })

    it('S63 takes no credentials along to another origin, and what else there is', async () => {
      const headers = {
        Cookie: 'a=b',
        'Proxy-Authorization': 'Basic x',
        'X-Trace': 'trace',
        Authorization: 'a',
      }
      const { text } = await caller()({ url: '/307/other', method: 'POST', headers, body: 'body' })
      expect(text).toBe('{"from":"other"}')
      const [{ headers: received, body }] = other.requests as [WireServer['requests'][0]]
      expect(received).toMatchObject({ 'x-trace': 'trace', host: other.url.slice('http://'.length) })
      expect([received.cookie, received['proxy-authorization'], received.authorization]).toEqual(
        Array(3).fill(undefined),
      )
      expect(body).toBe('body')
    })

    it('keeps the cookies within an origin', async () => {
      await caller()({ url: '/302/end', headers: { Cookie: 'a=b' } })
      expect(api.requests.map(({ headers }) => headers.cookie)).toEqual(['a=b', 'a=b'])
    })

    it.each([301, 302, 303, 307, 308])(
      'S63 %d to another origin and back: the other one has chosen the URL, and gets no token there',
      async (status) => {
        const headers = { Cookie: 'a=b' }
        const { url } = await caller()({
          url: `/${status}/other/back`,
          method: 'POST',
          headers,
          body: 'body',
        })
        expect(url).toBe(`${api.url}/end`)
        expect(api.requests.map(({ headers }) => [headers.authorization, headers.cookie])).toEqual([
          ['Bearer token1', 'a=b'],
          [undefined, undefined],
        ])
        expect(other.requests.map(({ headers }) => headers.authorization)).toEqual([undefined])
      },
    )

    it('S63 to another origin, on to a third that was named: no token', async () => {
      const third = await wireServer((_request, response) => json(response, { from: 'third' }))
      back = `${third.url}/end`
      await caller({ allowedOrigins: [third.url] })({ url: '/302/other/back' })
      await third.close()
      expect(third.requests.map(({ headers }) => headers.authorization)).toEqual([undefined])
    })

    it('S63 to another origin that was named, and back: the token goes all the way', async () => {
      await caller({ allowedOrigins: [other.url] })({ url: '/302/other/back' })
      const sent = [...api.requests, ...other.requests].map(({ headers }) => headers.authorization)
      expect(sent).toEqual(Array(3).fill('Bearer token1'))
    })

    it('S63 to another origin and back to a 401: the answer as it is, since no token was refused', async () => {
      back = `${api.url}/401`
      expect((await caller()({ url: '/302/other/back' })).status).toBe(401)
      expect(needs).toHaveLength(1)
      expect(api.requests).toHaveLength(2)
    })

    it('S63 S70 a call that is sent again carries the new token from its start', async () => {
      refused = 'Bearer token1'
      await caller()({ url: '/302/other/back' })
      const tokens = api.requests.map(({ headers }) => headers.authorization)
      expect(tokens).toEqual(['Bearer token1', 'Bearer token2', undefined])
    })

    it.each([
      ['http://user:password@', 'named'],
      ['http://user@', 'named'],
    ])('S63 to %s: what displaces the token is left out', async (credentials) => {
      const target = api.url.replace('http://', credentials)
      const redirecting = await wireServer((_request, response) =>
        response.writeHead(302, { location: `${target}/end` }).end(),
      )
      const options = { baseURL: redirecting.url, allowedOrigins: [api.url] }
      const { url } = await driver.over(source, options)({ url: '/' })
      await redirecting.close()
      expect(url).toBe(`${api.url}/end`)
      expect(api.requests.map(({ headers }) => headers.authorization)).toEqual(['Bearer token1'])
    })

    it('S63 to another name of the same host: the token stays', async () => {
      const { port } = new URL(api.url)
      const call = driver.over(source, { baseURL: `http://localhost:${port}` })
      const answer = await call({ url: '/302/other' })
      expect(answer.text).toBe('{"from":"other"}')
      expect(other.requests.map(({ headers }) => headers.authorization)).toEqual([undefined])
    })

    it.each([
      [[], 1],
      [['other'], 2],
    ])('to an origin that answers 401: allowed %j, %d tokens asked for', async (allowed, asked) => {
      otherStatus = 401
      const allowedOrigins = allowed.map(() => other.url)
      expect((await caller({ allowedOrigins })({ url: '/302/other' })).status).toBe(401)
      expect(needs).toHaveLength(asked)
      expect(api.requests).toHaveLength(asked)
    })
  })
}

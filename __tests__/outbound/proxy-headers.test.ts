import { describe, expect, it } from '@jest/globals'
import { headersForApi, headersForBrowser } from '../../lib/outbound/proxy/headers.js'

describe('headersForApi(headers, withhold)', () => {
  it('passes on what is said to the API', () => {
    const headers = {
      accept: 'text/plain',
      'content-type': 'text/plain',
      range: 'bytes=0-1',
      'if-none-match': '"a"',
    }
    expect(headersForApi({ ...headers, 'x-mine': '1' }, [])).toEqual({ ...headers, 'x-mine': '1' })
    expect(headersForApi({ ...headers, 'x-mine': '1' }, ['x-mine'])).toEqual(headers)
  })

  it.each([
    ...['authorization', 'cookie', 'host', 'origin', 'expect', 'content-length', 'http2-settings'],
    ...['connection', 'keep-alive', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'proxy-authorization'],
    ...['proxy-connection', 'proxy-anything', 'csrf-token', 'x-csrf-token', 'x-xsrf-token', ':authority'],
    ...['forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-port', 'x-forwarded-proto'],
    ...['x-original-url', 'x-rewrite-url'],
  ])('withholds %s', (name) => {
    expect(headersForApi({ [name]: 'a' }, [])).toEqual({})
  })

  it('withholds what Connection names', () => {
    expect(
      headersForApi({ connection: 'close, X-One ,x-two', 'x-one': '1', 'x-two': '2', 'x-three': '3' }, []),
    ).toEqual({
      'x-three': '3',
    })
  })
})

describe('headersForBrowser(headers, status, token)', () => {
  it('passes on what is said to the browser', () => {
    const headers = { 'content-type': 'text/plain', location: 'https://elsewhere.example/', etag: '"a"' }
    expect(headersForBrowser(headers, 302, undefined)).toEqual(headers)
  })

  it.each([
    ...['set-cookie', 'clear-site-data', 'strict-transport-security', 'authentication-info', 'keep-alive'],
    ...[
      'connection',
      'transfer-encoding',
      'trailer',
      'upgrade',
      'proxy-authenticate',
      'proxy-authentication-info',
    ],
    ...['access-control-allow-origin', 'access-control-allow-credentials', 'access-control-expose-headers'],
    ...['access-control-allow-headers', 'access-control-allow-methods', 'access-control-max-age'],
    ...['alt-svc', 'nel', 'report-to', 'x-accel-redirect', 'x-sendfile'],
  ])('withholds %s', (name) => {
    expect(headersForBrowser({ [name]: 'a' }, 200, undefined)).toEqual({})
  })

  it('withholds what shows the token, however it is written', () => {
    const token = 'a/secret+token=='
    const headers = {
      'x-echo': `Bearer ${token}`,
      location: `https://a.example/?t=${encodeURIComponent(token)}`,
      'x-other': 'an answer of some length',
    }
    const shown = headersForBrowser(headers, 302, token)
    expect(Object.keys(shown)).toEqual(['x-other', 'vary', 'cache-control'])
    expect(headersForBrowser(headers, 302, 'a')).toMatchObject(headers)
  })

  it('withholds the challenge of a 401 alone', () => {
    const headers = { 'www-authenticate': 'Bearer error="insufficient_scope"' }
    expect(headersForBrowser(headers, 401, undefined)).toEqual({})
    expect(headersForBrowser(headers, 403, undefined)).toEqual(headers)
  })

  it.each([
    [undefined, 'private'],
    ['', 'private'],
    ['max-age=60', 'max-age=60, private'],
    ['no-cache', 'no-cache, private'],
    ['public, max-age=60', 'public, max-age=60'],
    ['s-maxage=60', 's-maxage=60'],
    ['max-age=60,must-revalidate', 'max-age=60, must-revalidate'],
    ['private', 'private'],
    ['No-Store', 'No-Store'],
    ['x-public', 'x-public, private'],
  ])('Cache-Control %p: %p for an answer to a token', (value, shown) => {
    const headers = value === undefined ? {} : { 'cache-control': value }
    expect(headersForBrowser(headers, 200, 'token')['cache-control']).toBe(shown)
    expect(headersForBrowser(headers, 200, undefined)['cache-control']).toBe(value)
  })

  it.each([
    [undefined, undefined, 'Cookie', 'private'],
    ['Accept', 'max-age=60', 'Accept, Cookie', 'max-age=60, private'],
    ['accept, cookie', 'no-store', 'accept, cookie', 'no-store'],
    ['*', undefined, '*', 'private'],
    ['Accept', 'public, max-age=60', 'Accept', 'public, max-age=60'],
    // All who ask this site have the same Authorization: none.
    ['Authorization', 'public, max-age=60', 'Authorization, Cookie', 'max-age=60, private'],
    ['authorization', 's-maxage=60, must-revalidate', 'authorization, Cookie', 'must-revalidate, private'],
    ['Authorization, Cookie', 'private, max-age=60', 'Authorization, Cookie', 'private, max-age=60'],
  ])('Vary %p, Cache-Control %p: %p, %p for an answer to a token', (vary, cacheControl, depends, kept) => {
    const headers = { ...(vary && { vary }), ...(cacheControl && { 'cache-control': cacheControl }) }
    expect(headersForBrowser(headers, 200, 'token')).toEqual({ vary: depends, 'cache-control': kept })
  })

  it('what depends on the token depends on the cookie, for those without a token as well', () => {
    const headers = { vary: 'Authorization', 'cache-control': 'public' }
    expect(headersForBrowser(headers, 200, undefined)).toEqual({ ...headers, vary: 'Authorization, Cookie' })
    expect(headersForBrowser({ vary: 'Accept' }, 200, undefined)).toEqual({ vary: 'Accept' })
  })

  it.each(['cdn-cache-control', 'cloudflare-cdn-cache-control', 'surrogate-control', 'x-accel-expires'])(
    'withholds %s of an answer to a token',
    (name) => {
      expect(headersForBrowser({ [name]: 'max-age=60' }, 200, 'token')).not.toHaveProperty([name])
      expect(headersForBrowser({ [name]: 'max-age=60' }, 200, undefined)).toEqual({ [name]: 'max-age=60' })
    },
  )
})

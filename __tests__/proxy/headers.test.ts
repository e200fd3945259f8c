import type { IncomingHttpHeaders } from 'node:http'
import { describe, expect, it } from '@jest/globals'
import { headersForApi, headersForBrowser } from '../../lib/proxy/headers.js'
import {
  NAMES_FOR_A_SERVER,
  NAMES_OF_A_CLIENT,
  NAMES_OF_A_SITE,
  NAMES_OF_AN_API,
  spellingsOf,
} from '../helpers/header-families.js'

/** The headers that the API gets of those given. */
function passed(headers: IncomingHttpHeaders, withhold: readonly string[]): IncomingHttpHeaders {
  const kept: IncomingHttpHeaders = {}
  headersForApi(withhold)(headers, (name, value) => {
    kept[name] = value
  })
  return kept
}

describe('headersForApi(withhold)', () => {
  it('passes on what is said to the API', () => {
    const headers = {
      accept: 'text/plain',
      'content-type': 'text/plain',
      range: 'bytes=0-1',
      'if-none-match': '"a"',
    }
    expect(passed({ ...headers, 'x-mine': '1' }, [])).toEqual({ ...headers, 'x-mine': '1' })
    expect(passed({ ...headers, 'x-mine': '1', x_mine: '2', 'x.mine': '3' }, ['x-mine'])).toEqual(headers)
  })

  it.each(Object.entries(NAMES_FOR_A_SERVER))('withholds what says %s, in every spelling', (_, names) => {
    const reached = names.flatMap(spellingsOf).filter((name) => name in passed({ [name]: 'a' }, []))
    expect(reached).toEqual([])
  })

  it('passes on what clients of APIs say', () => {
    const headers = Object.fromEntries(NAMES_OF_A_CLIENT.map((name) => [name.toLowerCase(), 'a']))
    expect(passed(headers, [])).toEqual(headers)
  })

  it('withholds pseudo-headers of HTTP/2', () => {
    expect(passed({ ':authority': 'a', ':path': '/' } as IncomingHttpHeaders, [])).toEqual({})
  })

  it('of two spellings of one name passes on the one with dashes', () => {
    const headers = { 'x-tenant': 'a', x_tenant: 'b', 'x.tenant': 'c', content_type: 'd' }
    expect(passed({ ...headers, 'content-type': 'text/plain' }, [])).toEqual({
      'x-tenant': 'a',
      'content-type': 'text/plain',
    })
    expect(passed({ x_tenant: 'b', content_type: 'd' }, [])).toEqual({
      x_tenant: 'b',
      content_type: 'd',
    })
  })

  it('withholds what Connection names', () => {
    expect(
      passed(
        { connection: 'close, X-One ,x_two', 'x-one': '1', 'x.one': '1', 'x-two': '2', 'x-three': '3' },
        [],
      ),
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

  it.each(Object.entries(NAMES_OF_A_SITE))('withholds what speaks of %s, in every spelling', (_, names) => {
    const shown = (name: string) => headersForBrowser({ [name]: 'a' }, 200, undefined)
    expect(names.flatMap(spellingsOf).filter((name) => name in shown(name))).toEqual([])
  })

  it('passes on what clients of APIs read', () => {
    const headers = Object.fromEntries(NAMES_OF_AN_API.map((name) => [name.toLowerCase(), 'a']))
    expect(headersForBrowser(headers, 200, undefined)).toEqual(headers)
  })

  it('withholds what Connection names', () => {
    const headers = { connection: 'close, X_One', 'x-one': '1', 'x-two': '2' }
    expect(headersForBrowser(headers, 200, undefined)).toEqual({ 'x-two': '2' })
  })

  it('lets an API of events keep a server in front from collecting them', () => {
    const headers = { 'x-accel-buffering': 'no' }
    expect(headersForBrowser(headers, 200, undefined)).toEqual(headers)
  })

  describe('withholds what shows the token', () => {
    const token = 'eyJ.a/secret+token~_-=='
    const within = (encoding: 'base64' | 'base64url' | 'hex', text: string) =>
      Buffer.from(text).toString(encoding)
    const colons = within('hex', token).replace(/..(?=.)/g, '$&:')

    it.each<[string, string]>([
      ['as it is', `Bearer ${token}`],
      ['in lower case', token.toLowerCase()],
      ['for a URL', `https://a.example/?t=${encodeURIComponent(token)}`],
      ['for a URL, in lower case', encodeURIComponent(token).toLowerCase()],
      ['for a URL, twice', encodeURIComponent(encodeURIComponent(token))],
      ['for a URL, every letter', within('hex', token).replace(/../g, '%$&')],
      ['in JSON', JSON.stringify({ token }).replaceAll('/', '\\/').replaceAll('+', '\\u002b')],
      ['in HTML', token.replaceAll('+', '&#43;').replaceAll('/', '&#x2F;')],
      ...(['', 'a', 'ab', 'abc', 'Bearer '] as const).flatMap((before): [string, string][] => [
        [`in base64, after ${before.length}`, within('base64', before + token)],
        [`in base64, between ${before.length}`, within('base64', `${before}${token} and more`)],
        [`in base64url, after ${before.length}`, within('base64url', before + token)],
        [
          `in base64 of JSON, after ${before.length}`,
          within('base64', `${before}${JSON.stringify({ token })}`),
        ],
        [`in base64 for a URL, after ${before.length}`, encodeURIComponent(within('base64', before + token))],
      ]),
      [
        'in base64 of JSON with escaped slashes',
        within('base64', JSON.stringify({ token }).replaceAll('/', '\\/')),
      ],
      ['in base64 of a query', within('base64', new URLSearchParams({ token }).toString())],
      ['in hex', within('hex', token)],
      ['in hex, in upper case', within('hex', token).toUpperCase()],
      ['in hex, after more', `0x00${within('hex', token)}ff`],
      ['in hex, with colons', colons],
      ['in hex, as bytes of a program', within('hex', token).replace(/../g, '0x$&, ')],
      ['as decimal bytes', JSON.stringify(Buffer.from(token))],
      // printf %s 'eyJ.a/secret+token~_-==' | base32, and the same behind one and four letters
      ['in base32', 'MV4UULTBF5ZWKY3SMV2CW5DPNNSW47S7FU6T2==='],
      ['in base32, in lower case, behind 1', 'mfsxssroMEXXGZLDOJSXIK3UN5VWK3T6L4WT2PI='.toLowerCase()],
      ['in base32, behind 4', 'MFRGGZDFPFFC4YJPONSWG4TFOQVXI33LMVXH4XZNHU6Q===='],
    ])('%s', (_, value) => {
      expect(headersForBrowser({ 'x-echo': value, etag: '"a"' }, 200, token)).not.toHaveProperty('x-echo')
      expect(headersForBrowser({ 'x-echo': value }, 200, undefined)).toEqual({ 'x-echo': value })
    })

    it.each([
      ['as it is', 'eyJ.ab_cd-ef'],
      ['in hex', within('hex', 'eyJ.ab_cd-ef')],
      ['in base64url', within('base64url', 'eyJ.ab_cd-ef')],
      ['for a URL', 'eyJ%2Eab_cd%2def'],
    ])('in the name of a header, %s', (_, written) => {
      const name = `x-${written}-y`.toLowerCase()
      expect(headersForBrowser({ [name]: '1' }, 200, 'eyJ.ab_cd-ef')).not.toHaveProperty([name])
    })

    it('and nothing else', () => {
      const headers = {
        location: 'https://a.example/orders/1?page=2&sort=name%20desc',
        link: '<https://a.example/orders?page=2>; rel="next"',
        'x-hash': 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
        'x-base64': Buffer.from('something that is no token, and longer').toString('base64'),
      }
      expect(headersForBrowser(headers, 302, token)).toMatchObject(headers)
      expect(headersForBrowser({ 'x-echo': 'a Bearer a' }, 200, 'a')).toMatchObject({
        'x-echo': 'a Bearer a',
      })
    })
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
    ['private="Set-Cookie", max-age=60', 'private="Set-Cookie", max-age=60, private'],
    ['private=x-name', 'private=x-name, private'],
    ['max-age=60, note="a, public, b"', 'max-age=60, note="a, public, b", private'],
    ['note="a\\", private, b"', 'note="a\\", private, b", private'],
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
    ['Authorization', 'private="ETag", s-maxage=60', 'Authorization, Cookie', 'private="ETag", private'],
    ['Accept', 'max-age=60, note="a, public"', 'Accept, Cookie', 'max-age=60, note="a, public", private'],
  ])('Vary %p, Cache-Control %p: %p, %p for an answer to a token', (vary, cacheControl, depends, kept) => {
    const headers = { ...(vary && { vary }), ...(cacheControl && { 'cache-control': cacheControl }) }
    expect(headersForBrowser(headers, 200, 'token')).toEqual({ vary: depends, 'cache-control': kept })
  })

  it('what depends on the token depends on the cookie, for those without a token as well', () => {
    const headers = { vary: 'Authorization', 'cache-control': 'public' }
    expect(headersForBrowser(headers, 200, undefined)).toEqual({ ...headers, vary: 'Authorization, Cookie' })
    expect(headersForBrowser({ vary: 'Accept' }, 200, undefined)).toEqual({ vary: 'Accept' })
  })
})

import { describe, expect, it } from '@jest/globals'
import { type PathRules, pathAtApi, rewriteOf } from '../../lib/proxy/path.js'

const orders = new URL('https://api.example.com/orders')
const root = new URL('https://api.example.com')

function rules(target: URL, more: Partial<PathRules> = {}): PathRules {
  return { target, rewrite: undefined, encodedSeparators: 'refuse', ...more }
}

describe('pathAtApi(rules, request)', () => {
  it.each([
    ['/1', '/orders/1'],
    ['/1?a=b&c', '/orders/1?a=b&c'],
    ['/1?', '/orders/1?'],
    ['/1??a=?', '/orders/1??a=?'],
    ['/a..b/..c', '/orders/a..b/..c'],
    ['/.../.a/a./%2ea', '/orders/.../.a/a./%2ea'],
    ['/v1%2E2', '/orders/v1%2E2'],
    ['/%7Eada/a%20b/%28c%29%2C%3A%40%2B', '/orders/%7Eada/a%20b/%28c%29%2C%3A%40%2B'],
    ['/1?path=%61%2e%00', '/orders/1?path=%61%2e%00'],
    ['/1?path=../..', '/orders/1?path=../..'],
    ['/1?path=%2f%5c\\', '/orders/1?path=%2f%5c\\'],
    ['//evil.example/1', '/orders//evil.example/1'],
    ['/https://evil.example/1', '/orders/https://evil.example/1'],
    ['/@evil.example', '/orders/@evil.example'],
    ['/%E2%82%AC', '/orders/%E2%82%AC'],
    ['/%252f%252e%252e', '/orders/%252f%252e%252e'],
  ])('of %s', async (url, path) => {
    expect(await pathAtApi(rules(orders), { url })).toBe(path)
  })

  const LEADING_UP = ['/..', '/../admin', '/a/../../admin', '/%2e%2e/admin', '/.%2E/admin', '/a%2f..%2fadmin']
  const STAYING = ['/.', '/./admin', '/a/./admin', '/%2e/admin', '/.;/admin', '/a%5c.%5cadmin', '/.?a']
  const UNLIKE_ELSEWHERE = [
    '/a\\..\\admin',
    '/\\admin',
    '/a%5c..%5cadmin',
    '/..;a=b/admin',
    '/..%3b/admin',
    '/..%00/admin',
  ]
  const NO_PATHS = [
    '/..?a',
    '/a b',
    '/a\tb',
    '/a\nb',
    '/\u20ac',
    '/1#fragment',
    '/1?a#fragment',
    '*',
    '',
    'nonsense',
    'a:443',
  ]
  const ABSOLUTE = [
    'ftp://api.example.com/',
    'http://this.example/1',
    'https://evil.example/1',
    'http:///a/admin',
  ]

  const ENCODED_WITHOUT_NEED = ['/%61dmin', '/%41dmin', '/admi%6E', '/%7a', '/%5A', '/v%31', '/v%39']
  const MARKS_AND_NUL = ['/super%2duser', '/super%5Fuser', '/admin%00', '/admin%00.json']

  it.each([
    ...[...LEADING_UP, ...STAYING, ...UNLIKE_ELSEWHERE, ...NO_PATHS, ...ABSOLUTE],
    ...[...ENCODED_WITHOUT_NEED, ...MARKS_AND_NUL],
  ])('refuses %j', async (url) => {
    for (const encodedSeparators of ['refuse', 'pass'] as const) {
      expect(await pathAtApi(rules(orders, { encodedSeparators }), { url })).toBeUndefined()
      expect(await pathAtApi(rules(root, { encodedSeparators }), { url })).toBeUndefined()
    }
  })

  it.each(['/a%2fb', '/a%2Fb', '/a%5cb', '/%5C'])('refuses %s unless it is to pass', async (url) => {
    expect(await pathAtApi(rules(orders), { url })).toBeUndefined()
    expect(await pathAtApi(rules(orders, { encodedSeparators: 'pass' }), { url })).toBe(`/orders${url}`)
  })

  it.each([
    ['the mount itself', orders, '/', '/api', '/orders'],
    ['the mount itself, with a query', orders, '/?a', '/api?a', '/orders?a'],
    ['the mount itself, with a slash in its query', orders, '/?a/', '/api?a/', '/orders?a/'],
    ['the mount with a slash', orders, '/', '/api/', '/orders/'],
    ['the mount with two', orders, '//', '/api//', '/orders//'],
    ['no mount', orders, '/', undefined, '/orders/'],
    ['the mount itself, of an API at the root', root, '/', '/api', '/'],
    [
      'a target that ends in a slash',
      new URL('https://api.example.com/orders/'),
      '/1',
      '/api/1',
      '/orders/1',
    ],
  ])('of %s', async (_, target, url, originalUrl, path) => {
    expect(await pathAtApi(rules(target), { url, originalUrl })).toBe(path)
  })

  it.each([
    ['/admin', '/api//admin', '/api', undefined],
    ['/', '/api//', '/api', undefined],
    ['/admin?a=//', '/a//api/admin?a=//', '/a/api', undefined],
    ['//admin', '/api//admin', '/api', '/orders//admin'],
    ['/a?b=//', '/api/a?b=//', '/api', '/orders/a?b=//'],
    ['/changed', '/api//admin', '/api', '/orders/changed'],
    ['/a//b', '/a//b', '', '/orders/a//b'],
    ['/b', '/a//b', undefined, undefined],
    ['//b', '/a///b', undefined, undefined],
    ['//b', '/a//b', undefined, '/orders//b'],
    ['/c', '/a//b/c', '/a//b', '/orders/c'],
  ])('of %s that a router has left of %s at %j', async (url, originalUrl, baseUrl, path) => {
    expect(await pathAtApi(rules(orders), { url, originalUrl, baseUrl })).toBe(path)
  })

  it.each([
    ['the first rule that matches', { '^/no': '/x', '^/api': '', '/1': '/2' }, '/api/1', '/orders/1'],
    ['nothing that matches', { '^/no': '/x' }, '/api/1', '/orders/api/1'],
    ['to nothing', { '^/api': '' }, '/api?a', '/orders/?a'],
    ['with a group', { '^/v(\\d)': '/$1' }, '/v1?a', '/orders/1?a'],
    ['a function', (path: string) => path.toUpperCase(), '/a', '/orders/A'],
    ['a function that takes its time', async (path: string) => `${path}?a=1`, '/a', '/orders/a?a=1'],
    ['a function that returns nothing', () => undefined, '/a?b', '/orders/a?b'],
    ['a function that returns null', async () => null, '/a?b', '/orders/a?b'],
    ['a function that returns an empty path', () => '', '/a?b', '/orders/'],
    ['another origin', () => 'https://evil.example/', '/a', '/orders/https://evil.example/'],
  ])('rewritten: %s', async (_, rewrite, url, path) => {
    expect(await pathAtApi(rules(orders, { rewrite: rewriteOf(rewrite) }), { url })).toBe(path)
  })

  it.each(['/../admin', '/a%2fb', '/a\\b', '/a b', '..'])(
    'what a rewrite makes is refused alike: %s',
    async (path) => {
      expect(await pathAtApi(rules(orders, { rewrite: () => path }), { url: '/' })).toBeUndefined()
    },
  )

  it.each([
    [{ '^/api/': '' }, '/api//admin', undefined],
    [{ '^/api/': '' }, '/api///admin', undefined],
    [{ '^/': '' }, '//admin', undefined],
    [(path: string) => path.slice(5), '/api//admin', undefined],
    [{ '^/api': '' }, '/api//admin', '/orders//admin'],
    [{ '^/api/': '/v2/' }, '/api//admin', '/orders/v2//admin'],
    [{ '^/api/': '' }, '/api/a?to=//b', '/orders/a?to=//b'],
    [(path: string) => `/find?path=${path}`, '/a//b', '/orders/find?path=/a//b'],
  ])('a rewrite by %p takes no slash besides from %s', async (rewrite, url, path) => {
    expect(await pathAtApi(rules(orders, { rewrite: rewriteOf(rewrite) }), { url })).toBe(path)
  })

  it('a path that is refused is not rewritten', async () => {
    expect(await pathAtApi(rules(orders, { rewrite: () => '/1' }), { url: '/../1' })).toBeUndefined()
  })

  it.each([7, false, {}, ['/a'], () => '/a', new URL(orders)])(
    'a rewrite to %p is a mistake',
    async (value) => {
      const rewriting = pathAtApi(rules(orders, { rewrite: () => value }), { url: '/' })
      await expect(rewriting).rejects.toMatchObject({
        code: 'ERR_CONFIGURATION',
        message: expect.stringContaining('Return a path with its query as a string'),
      })
    },
  )
})

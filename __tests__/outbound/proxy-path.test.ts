import { describe, expect, it } from '@jest/globals'
import { pathAtApi } from '../../lib/outbound/proxy/path.js'

const orders = new URL('https://api.example.com/orders')
const root = new URL('https://api.example.com')

describe('pathAtApi(target, rewrite, request)', () => {
  it.each([
    ['/1', '/orders/1'],
    ['/1?a=b&c', '/orders/1?a=b&c'],
    ['/1?', '/orders/1?'],
    ['/1#fragment', '/orders/1'],
    ['/a..b/..c', '/orders/a..b/..c'],
    ['/1?path=../..', '/orders/1?path=../..'],
    ['http://this.example/1?a', '/orders/1?a'],
    ['https://evil.example/1', '/orders/1'],
    ['//evil.example/1', '/orders//evil.example/1'],
    ['/@evil.example', '/orders/@evil.example'],
    ['/%E2%82%AC', '/orders/%E2%82%AC'],
  ])('of %s', async (url, path) => {
    expect(await pathAtApi(orders, undefined, { url })).toBe(path)
  })

  it.each([
    '/..',
    '/../admin',
    '/a/../../admin',
    '/%2e%2e/admin',
    '/.%2E/admin',
    '/a\\..\\admin',
    '/a%2f..%2fadmin',
    '/a%5c..%5cadmin',
    '/..;a=b/admin',
    '/..%00/admin',
    '/..?a',
    '/a b',
    '/\u20ac',
    '*',
    '',
    'nonsense',
    'ftp://api.example.com/',
  ])('refuses %s', async (url) => {
    expect(await pathAtApi(orders, undefined, { url })).toBeUndefined()
    expect(await pathAtApi(root, undefined, { url })).toBeUndefined()
  })

  it.each([
    ['the mount itself', orders, '/', '/api', '/orders'],
    ['the mount itself, with a query', orders, '/?a', '/api?a', '/orders?a'],
    ['the mount with a slash', orders, '/', '/api/', '/orders/'],
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
    expect(await pathAtApi(target, undefined, { url, originalUrl })).toBe(path)
  })

  it.each([
    ['the first rule that matches', { '^/no': '/x', '^/api': '', '/1': '/2' }, '/api/1', '/orders/1'],
    ['nothing that matches', { '^/no': '/x' }, '/api/1', '/orders/api/1'],
    ['to nothing', { '^/api': '' }, '/api?a', '/orders/?a'],
    ['a function', (path: string) => path.toUpperCase(), '/a', '/orders/A'],
    ['a function that takes its time', async (path: string) => `${path}?a=1`, '/a', '/orders/a?a=1'],
    ['another origin', () => 'https://evil.example/', '/a', '/orders/https://evil.example/'],
  ])('rewritten: %s', async (_, rewrite, url, path) => {
    expect(await pathAtApi(orders, rewrite, { url })).toBe(path)
  })

  it('a rewrite cannot lead out either', async () => {
    expect(await pathAtApi(orders, () => '/../admin', { url: '/' })).toBeUndefined()
  })
})

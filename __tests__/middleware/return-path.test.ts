import { describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { returnPath } from '../../lib/index.js'

const SITE = 'https://app.example'

describe('returnPath(value, fallback)', () => {
  it.each([
    ['/', '/'],
    ['/orders', '/orders'],
    ['/orders/7?open=1&page=a%20b#top', '/orders/7?open=1&page=a%20b#top'],
    ['/orders?next=https://evil.example/', '/orders?next=https://evil.example/'],
    ['/a/../b', '/b'],
    ['/ä', '/%C3%A4'],
    ['/@evil.example', '/@evil.example'],
    ['/%2F/evil.example', '/%2F/evil.example'],
  ])('%s is accepted', (value, path) => {
    expect(returnPath(value)).toBe(path)
  })

  it.each([
    ['another site', 'https://evil.example/'],
    ['a host without a scheme', '//evil.example'],
    ['three slashes', '///evil.example'],
    ['a backslash, which browsers read as a slash', '/\\evil.example'],
    ['a backslash at the beginning', '\\evil.example'],
    ['a tab, which browsers remove', '/\t/evil.example'],
    ['a line feed, which browsers remove', '/\n/evil.example'],
    ['a carriage return before a backslash', '/\r\\evil.example'],
    ['a space in front', ' //evil.example'],
    ['dots that vanish', '/.//evil.example'],
    ['a folder that is left again', '/x/..//evil.example'],
    ['encoded dots that vanish', '/%2e//evil.example'],
    ['a script', 'javascript:alert(1)'],
    ['a relative path', 'orders'],
    ['an invalid host', '//['],
    ['nothing', ''],
    ['no text', undefined],
    ['two of them, as a query may have', ['/orders', '//evil.example']],
    ['an object', { toString: () => '/orders' }],
  ])('%s is not accepted', (_, value) => {
    expect(returnPath(value)).toBe('/')
    expect(returnPath(value, '/home')).toBe('/home')
  })

  it('never leads a browser away, whatever it is given', () => {
    const piece = fc.constantFrom(
      '/',
      '\\',
      '.',
      '..',
      '\t',
      '\n',
      '@',
      ':',
      '%2e',
      '%2f',
      '?',
      '#',
      'x',
      'evil.example',
    )
    const text = fc.oneof(
      fc.string(),
      fc.array(piece).map((pieces) => `/${pieces.join('')}`),
    )
    fc.assert(
      fc.property(text, (value) => {
        const path = returnPath(value)
        expect(new URL(path, SITE).origin).toBe(SITE)
        // What it gives is as good the second time.
        expect(returnPath(path, 'not again')).toBe(path)
      }),
      { numRuns: 2_000, seed: 1 },
    )
  })
})

import { describe, expect, it } from '@jest/globals'
import { ConfigurationError, refuseCrossOrigin as ofExpress } from '../../lib/index.js'
import { refuseCrossOrigin as ofKoa } from '../../lib/koa.js'
import { describeCrossOrigin } from '../contract/cross-origin.js'
import { refusingMiddleware } from '../helpers/cross-origin-site.js'

for (const driver of refusingMiddleware) describeCrossOrigin('refuseCrossOrigin(options)', driver)

describe.each([
  ['Express', ofExpress],
  ['Koa', ofKoa],
])('refuseCrossOrigin(options), %s', (_, refuseCrossOrigin) => {
  it.each<[object, string]>([
    [{ origins: [] }, 'Did you mean `allowedOrigins`?'],
    [{ origin: 'https://a.example' }, 'Did you mean `allowedOrigins`?'],
    [{ trustedOrigins: [] }, 'Did you mean `allowedOrigins`?'],
    [{ allowedOrigin: [] }, 'Did you mean `allowedOrigins`?'],
    [{ methods: [] }, 'refuseCrossOrigin() has no option `methods`. Known are allowedOrigins.'],
  ])('rejects %j and names the cure', (options, message) => {
    expect(() => refuseCrossOrigin(options)).toThrow(ConfigurationError)
    expect(() => refuseCrossOrigin(options)).toThrow(message)
  })

  it.each([
    null,
    'https://a.example',
    { 0: 'https://a.example' },
    ['null'],
    ['*'],
    ['https://*.example'],
    ['https://a.example/'],
    ['https://a.example/path'],
    ['https://A.example'],
    ['https://a.example:443'],
    ['a.example'],
    ['//a.example'],
    ['file://'],
    ['capacitor://localhost'],
    ['https://user@a.example'],
    ['https://a.example', undefined],
    [['https://a.example']],
    [new URL('https://a.example')],
    new Array(1),
    new Set(['https://a.example']),
  ])('rejects the allowedOrigins %j', (allowedOrigins) => {
    const make = () => refuseCrossOrigin({ allowedOrigins: allowedOrigins as string[] })
    expect(make).toThrow(ConfigurationError)
    expect(make).toThrow('`allowedOrigins` must be an array of origins, with no slash at the end')
  })

  it.each([null, 'https://a.example', 5, ['https://a.example'], () => {}])(
    'rejects %p in place of an object',
    (options) => {
      expect(() => refuseCrossOrigin(options as object)).toThrow(
        'refuseCrossOrigin() takes an object, or nothing',
      )
    },
  )

  it('accepts no inherited option', () => {
    const inherited = Object.create({ allowedOrigins: 'wrong' }) as object
    expect(() => refuseCrossOrigin(inherited)).toThrow('`allowedOrigins` is inherited')
  })

  it.each([
    undefined,
    {},
    { allowedOrigins: undefined },
    { allowedOrigins: [] },
    { allowedOrigins: ['http://a.example:8080'] },
  ])('accepts %j', (options) => {
    expect(refuseCrossOrigin(options as object)).toBeInstanceOf(Function)
  })
})

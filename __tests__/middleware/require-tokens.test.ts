import { describe, expect, it } from '@jest/globals'
import { ConfigurationError, requireTokens as ofExpress, type RequireTokensOptions } from '../../lib/index.js'
import { requireTokens as ofKoa } from '../../lib/koa.js'
import { describeRequireTokens } from '../contract/require-tokens.js'
import { frameworks } from '../helpers/frameworks.js'

for (const framework of frameworks) describeRequireTokens(framework)

describe.each([
  ['Express', ofExpress],
  ['Koa', ofKoa],
])('requireTokens(options), %s', (_, requireTokens) => {
  it.each<[string, object, string]>([
    ['scopes', { scopes: 'a' }, 'requireTokens() has no option `scopes`. Did you mean `scope`?'],
    ['ressource', { ressource: 'a' }, 'Did you mean `resource`?'],
    ['loginpath', { loginpath: '/login' }, 'Did you mean `loginPath`?'],
    ['loginUrl', { loginUrl: '/login' }, 'Did you mean `loginPath`?'],
    ['returnTo', { returnToParam: 'x' }, 'Did you mean `returnToParameter`?'],
    ['rejected', { rejected: 'token' }, 'requireTokens() has no option `rejected`'],
  ])('rejects the unknown option %s and names the cure', (_, options, message) => {
    expect(() => requireTokens(options)).toThrow(ConfigurationError)
    expect(() => requireTokens(options)).toThrow(message)
  })

  it.each([
    '',
    'login',
    '//evil.example',
    '/\\evil.example',
    'http://login.example',
    'javascript:x',
    'https://',
    'https:///login',
    'https:\\\\login.example',
    'https://?client=web',
    'https://login example/',
    5,
    null,
    ['/login'],
  ])('rejects the loginPath %p', (loginPath) => {
    const message = "`loginPath` must be a path such as '/login', or an absolute https URL."
    expect(() => requireTokens({ loginPath: loginPath as string })).toThrow(ConfigurationError)
    expect(() => requireTokens({ loginPath: loginPath as string })).toThrow(message)
  })

  it.each([null, 'orders.read', 5, true, () => {}])('rejects %p instead of an object', (options) => {
    const message = "requireTokens() takes an object: requireTokens({ loginPath: '/login' })."
    expect(() => requireTokens(options as object)).toThrow(new ConfigurationError(message))
    expect(() => requireTokens(options as object)).toThrow(ConfigurationError)
  })

  const notTexts = ['', null, 5, ['a'], {}]

  describe.each(['scope', 'resource', 'returnToParameter'])('%s', (name) => {
    it.each([...notTexts, ' '])('rejects %p', (value) => {
      const make = () => requireTokens({ [name]: value })
      expect(make).toThrow(ConfigurationError)
      expect(make).toThrow(`\`${name}\` must be a string that is not empty, e.g. ${name}: '`)
    })
  })

  it.each([
    { loginPath: '/login' },
    { scope: 'a' },
    { resource: 'a' },
    { audience: 'a' },
    { minValidityMs: 1 },
  ])("rejects user: 'none' with %j", (options) => {
    const make = () => requireTokens({ user: 'none', ...options })
    expect(make).toThrow(ConfigurationError)
    expect(make).toThrow(`so \`${Object.keys(options)[0]}\` has no meaning.`)
  })

  it.each(notTexts)('refuses the property %p', (property) => {
    const make = () => requireTokens({ property: property as string })
    expect(make).toThrow(ConfigurationError)
    expect(make).toThrow("`property` must be a name, e.g. property: 'tokens'.")
  })

  it.each([NaN, -1, Infinity, '60000', null, 1n])('rejects the minValidityMs %p', (minValidityMs) => {
    const make = () => requireTokens({ minValidityMs: minValidityMs as number })
    expect(make).toThrow(ConfigurationError)
    expect(make).toThrow(
      '`minValidityMs` must be a number of milliseconds from 0, e.g. minValidityMs: 60000.',
    )
  })

  it.each([
    undefined,
    {},
    { minValidityMs: 0 },
    { scope: undefined, loginPath: undefined, property: undefined },
    { scope: 'a b', resource: 'https://api.example.com', returnToParameter: 'next', property: 'oauth' },
  ] as (RequireTokensOptions | undefined)[])('accepts %j', (options) => {
    expect(requireTokens(options)).toBeInstanceOf(Function)
  })

  it.each(['/', '/login', '/login?x=1', 'https://login.example/'])(
    'accepts the loginPath %p',
    (loginPath) => {
      expect(requireTokens({ loginPath })).toBeInstanceOf(Function)
    },
  )
})

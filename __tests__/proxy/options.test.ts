import { Agent } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import { describe, expect, it } from '@jest/globals'
import { ConfigurationError } from '../../lib/index.js'
import { type BearerProxyOptions, bearerProxy, upgradesThrough } from '../../lib/proxy.js'

const target = 'https://api.example.com/orders'

describe('bearerProxy(options)', () => {
  it.each<[string, object, string]>([
    ['router', { router: () => 'https://evil.example' }, 'Mount a bearerProxy() for each API.'],
    ['forward', { forward: 'https://evil.example' }, 'Mount a bearerProxy() for each API.'],
    ['followRedirects', { followRedirects: true }, 'passed on to the browser'],
    ['changeOrigin', { changeOrigin: false }, 'It is always on.'],
    ['ws', { ws: true }, "server.on('upgrade', upgradesThrough(app))"],
    ['on', { on: {} }, 'Its events would show the token.'],
    ['plugins', { plugins: [] }, 'bearerProxy() handles it'],
    ['secure', { secure: false }, 'new https.Agent({ ca })'],
    ['auth', { auth: 'a:b' }, 'The access token authorizes the request'],
    ['origins', { origins: [] }, 'Did you mean `allowedOrigins`?'],
    ['timeout', { timeout: 5 }, 'Did you mean `proxyTimeout`?'],
    ['pathFilter', { pathFilter: '/a' }, 'Mount it on a path instead'],
    ['scope', { scope: 'a' }, 'Did you mean `need: { scope }`?'],
    ['url', { url: target }, 'Did you mean `target`?'],
    ['user', { user: 'optional' }, 'requireTokens({ user })'],
    ['pathRewrites', { pathRewrites: {} }, 'Did you mean `pathRewrite`?'],
  ])('has no option %s, and says what to do', (name, option, cure) => {
    const make = () => bearerProxy({ target, ...option } as BearerProxyOptions)
    expect(make).toThrow(ConfigurationError)
    expect(make).toThrow(`bearerProxy() has no option \`${name}\`. `)
    expect(make).toThrow(cure)
  })

  it.each<[string, unknown, string]>([
    ['target', undefined, '`target` must be an absolute http or https URL'],
    ['target', 'api.example.com', '`target` must be an absolute http or https URL'],
    ['target', 'ftp://api.example.com', '`target` must be an absolute http or https URL'],
    ['target', new URL(target), '`target` must be an absolute http or https URL'],
    ['target', () => target, '`target` must be an absolute http or https URL'],
    ['target', 'https://a:b@api.example.com', 'holds a user name or a password'],
    ['target', 'https://api.example.com/?a=1', '`target` must have no query'],
    ['target', 'https://api.example.com/#a', '`target` must have no query and no fragment'],
    ['need', 'orders.read', 'The need of a token must be an object'],
    ['need', { scopes: 'a' }, 'Did you mean `scope`?'],
    ['replay', 'sometimes', "`replay` must be 'always', 'idempotent' or 'never'"],
    ['maxReplayBytes', -1, '`maxReplayBytes` must be a whole number from 0'],
    ['maxReplayBytes', '64kb', '`maxReplayBytes` must be a whole number from 0'],
    ['proxyTimeout', NaN, '`proxyTimeout` must be a whole number of milliseconds from 0 to 86400000, e.g.'],
    ['proxyTimeout', 1e10, '`proxyTimeout` must be a whole number of milliseconds from 0 to 86400000'],
    ['allowedOrigins', 'https://a.example', '`allowedOrigins` must be an array of origins'],
    ['allowedOrigins', ['null'], '`allowedOrigins` must be an array of origins'],
    ['allowedOrigins', ['https://a.example/'], '`allowedOrigins` must be an array of origins'],
    ['property', '', '`property` must be a name'],
    ['xfwd', 'yes', '`xfwd` must be true or false'],
    ['agent', {}, '`agent` must be an agent'],
    [
      'pathRewrite',
      '/orders',
      '`pathRewrite` must be a function, or an object whose keys are regular expressions as strings',
    ],
    [
      'pathRewrite',
      { '(': '' },
      '`pathRewrite` must be a function, or an object whose keys are regular expressions as strings',
    ],
    [
      'pathRewrite',
      { '^/a': 1 },
      '`pathRewrite` must be a function, or an object whose keys are regular expressions as strings',
    ],
    ['encodedSeparators', true, "`encodedSeparators` must be 'refuse' or 'pass'"],
    ['headers', ['a'], '`headers` must be an object'],
    ['headers', { 'a b': 'c' }, '`headers`: `a b` is no name of a header. Use letters'],
    ['headers', { a: 2 }, '`headers`: the value of `a` must be a string'],
    ['headers', { a: 'b\r\nc: d' }, '`headers`: the value of `a` must be a string'],
    ['headers', { Authorization: 'Basic eDp5' }, '`headers` must not hold `Authorization`'],
    ['headers', { Cookie: 'a=b' }, '`headers` must not hold `Cookie`'],
    ['headers', { 'Transfer-Encoding': 'chunked' }, '`headers` must not hold `Transfer-Encoding`'],
    ['headers', { 'Content-Length': '1' }, '`headers` must not hold `Content-Length`'],
    ['withhold', 'x-csrf', '`withhold` must be an array of the names of request headers'],
    ['withhold', ['a b'], '`withhold` must be an array of the names of request headers'],
    ['logger', {}, '`logger` must have the methods info, warn and error'],
  ])('refuses the %s %p', (name, value, message) => {
    const make = () => bearerProxy({ target, [name]: value } as BearerProxyOptions)
    expect(make).toThrow(ConfigurationError)
    expect(make).toThrow(message)
  })

  it.each([undefined, null, 'https://api.example.com'])('refuses %p instead of an object', (options) => {
    const make = () => bearerProxy(options as unknown as BearerProxyOptions)
    expect(make).toThrow(
      new ConfigurationError(
        "bearerProxy() takes an object that names the API: bearerProxy({ target: 'https://api.example.com' }).",
      ),
    )
  })

  it.each<BearerProxyOptions>([
    { target },
    { target, need: { scope: 'a' }, replay: 'never', maxReplayBytes: 0, proxyTimeout: 0, property: 'oauth' },
    { target, pathRewrite: { '^/a': '/b' }, headers: { 'x-version': '2' }, withhold: ['X-Mine'], xfwd: true },
    { target, pathRewrite: (path) => path, agent: new HttpsAgent(), logger: console },
    { target: 'http://127.0.0.1:3000', agent: new Agent(), encodedSeparators: 'pass' },
    { target, pathRewrite: () => undefined },
    { target, pathRewrite: async () => null },
  ])('takes %j', (options) => {
    expect(bearerProxy(options)).toBeInstanceOf(Function)
  })
})

describe('upgradesThrough(app, options)', () => {
  const app = () => {}

  it.each([undefined, null, {}])('refuses %p instead of an app', (app) => {
    expect(() => upgradesThrough(app as never)).toThrow(ConfigurationError)
    expect(() => upgradesThrough(app as never)).toThrow('upgradesThrough(app.callback()) with Koa')
  })

  it.each([['https://app.example.com/'], ['app.example.com'], ['*'], ['null'], [5]])(
    'refuses the allowed origin %p',
    (origin) => {
      const make = () => upgradesThrough(app, { allowedOrigins: [origin as string] })
      expect(make).toThrow(ConfigurationError)
      expect(make).toThrow('`allowedOrigins` must be an array of origins, with no slash at the end')
    },
  )

  it('refuses what it does not know', () => {
    expect(() => upgradesThrough(app, { allowOrigins: [] } as never)).toThrow(
      'Did you mean `allowedOrigins`?',
    )
    expect(() => upgradesThrough(app, { origins: [] } as never)).toThrow('Did you mean `allowedOrigins`?')
    expect(() => upgradesThrough(app, null as never)).toThrow(
      'The options of upgradesThrough() must be an object',
    )
  })
})

import { describe, expect, it } from '@jest/globals'
import { ConfigurationError } from '../../lib/errors/token-error.js'
import { endpointUrl, safeUrl } from '../../lib/oauth/endpoint-url.js'

describe('endpointUrl(value, option)', () => {
  it.each([
    ['https', 'https://idp.example.com/oauth2/v1/token'],
    ['https with a query', 'https://idp.example.com/token?tenant=a'],
    ['http to localhost', 'http://localhost:3000/token'],
    ['http to 127.0.0.1', 'http://127.0.0.1/token'],
    ['http to another loopback address', 'http://127.8.9.10:81/token'],
    ['http to the IPv6 loopback address', 'http://[::1]:8080/token'],
  ])('S64 takes %s, unchanged', (_, url) => {
    expect(endpointUrl(url, 'tokenEndpoint')).toBe(url)
  })

  it.each<[string, unknown, RegExp]>([
    ['http', 'http://idp.example.com/token', /must use https.* is 'http:\/\/idp\.example\.com\/token'\./],
    ['http to a private address', 'http://10.0.0.1/token', /must use https/],
    ['http to a host that starts like loopback', 'http://127.0.0.1.example.com/token', /must use https/],
    ['http to a host that starts like localhost', 'http://localhost.example.com/token', /must use https/],
    ['http to every address', 'http://0.0.0.0/token', /must use https/],
    ['another protocol', 'ftp://idp.example.com/token', /must use https/],
    ['data:', 'data:application/json,{}', /must use https/],
    ['a path', '/oauth2/token', /absolute https URL, e\.g\. tokenEndpoint: 'https:/],
    ['a host', 'idp.example.com', /absolute https URL/],
    ['blanks around it', ' https://idp.example.com/token', /absolute https URL/],
    ['a fragment', 'https://idp.example.com/token#a', /fragment/],
    ['an empty fragment', 'https://idp.example.com/token#', /fragment/],
    ['credentials', 'https://user:hunter2@idp.example.com/token', /must not hold a user name or password/],
    ['nothing', undefined, /absolute https URL/],
    ['a URL object', new URL('https://idp.example.com/token'), /absolute https URL/],
  ])('S64 refuses %s, and says what to do', (_, url, cure) => {
    const check = () => endpointUrl(url, 'tokenEndpoint')
    expect(check).toThrow(ConfigurationError)
    expect(check).toThrow(cure)
    expect(check).toThrow(/^`tokenEndpoint` .*\.$/)
    expect(check).not.toThrow(/hunter2/)
  })

  it.each([
    ['as it is', 'http://IdP.Example.com', 'http://IdP.Example.com'],
    ['without its query', 'http://idp.example.com/t?key=hunter2', 'http://idp.example.com/t'],
    [
      'without signs that are not to be printed',
      'http://idp.example.com/\u001b[31m',
      'http://idp.example.com/ [31m',
    ],
    ['up to a length', `http://a/${'x'.repeat(1000)}`, `http://a/${'x'.repeat(191)}…`],
  ])('shows a URL %s', (_, url, shown) => {
    expect(() => endpointUrl(url, 'issuer')).toThrow(` but is '${shown}'. Plain http`)
  })

  it.each([
    ['issuer', 'https://idp.example.com'],
    ['tokenEndpoint', 'https://idp.example.com/oauth2/token'],
    ['refreshEndpoint', 'https://idp.example.com/oauth2/token'],
    ['revocationEndpoint', 'https://idp.example.com/oauth2/revoke'],
    ['jwksUri', 'https://idp.example.com/oauth2/jwks'],
  ])('gives an example of an %s', (option, example) => {
    const message = `\`${option}\` must be an absolute https URL, e.g. ${option}: '${example}'.`
    expect(() => endpointUrl('idp.example.com', option)).toThrow(new ConfigurationError(message))
  })
})

describe('safeUrl(url, secrets)', () => {
  it.each<[string, string, string[], string]>([
    ['without its query', 'https://idp.example.com/token?key=k', [], 'https://idp.example.com/token'],
    [
      'without a secret in its path',
      'https://idp.example.com/k%20ey-47/token',
      ['k ey-47'],
      'https://idp.example.com/[redacted]/token',
    ],
    [
      'with the letters of a short secret',
      'https://idp.example.com/token',
      ['a', 'id', 'token'],
      'https://idp.example.com/token',
    ],
  ])('shows it %s', (_, url, secrets, shown) => {
    expect(safeUrl(url, secrets)).toBe(shown)
  })
})

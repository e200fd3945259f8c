import { describe, expect, it } from '@jest/globals'
import { ConfigurationError } from '../../lib/errors.js'
import { endpointUrl } from '../../lib/oauth/endpoint-url.js'

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
    ['http', 'http://idp.example.com/token', /must use https.*https:\/\/idp\.example\.com\/token/],
    ['http to a private address', 'http://10.0.0.1/token', /must use https/],
    ['http to a host that starts like loopback', 'http://127.0.0.1.example.com/token', /must use https/],
    ['http to a host that starts like localhost', 'http://localhost.example.com/token', /must use https/],
    ['http to every address', 'http://0.0.0.0/token', /must use https/],
    ['another protocol', 'ftp://idp.example.com/token', /must use https/],
    ['data:', 'data:application/json,{}', /must use https/],
    ['a path', '/oauth2/token', /absolute URL, such as https:/],
    ['a host', 'idp.example.com', /absolute URL/],
    ['blanks around it', ' https://idp.example.com/token', /absolute URL/],
    ['a fragment', 'https://idp.example.com/token#a', /fragment/],
    ['an empty fragment', 'https://idp.example.com/token#', /fragment/],
    ['credentials', 'https://user:hunter2@idp.example.com/token', /must not hold a user name or password/],
    ['nothing', undefined, /absolute URL/],
    ['a URL object', new URL('https://idp.example.com/token'), /absolute URL/],
  ])('S64 refuses %s, and says what to do', (_, url, cure) => {
    const check = () => endpointUrl(url, 'tokenEndpoint')
    expect(check).toThrow(ConfigurationError)
    expect(check).toThrow(cure)
    expect(check).toThrow(/^tokenEndpoint /)
    expect(check).not.toThrow(/hunter2/)
  })
})

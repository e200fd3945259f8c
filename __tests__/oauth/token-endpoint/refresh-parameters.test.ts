import { afterEach, describe, expect, it } from '@jest/globals'
import { systemClock } from '../../../lib/concurrency/clock.js'
import { ConfigurationError } from '../../../lib/errors/token-error.js'
import {
  clientSecretPost,
  publicClient,
} from '../../../lib/oauth/client-authentication/client-authentication.js'
import {
  type HttpAuthorizationServerOptions,
  httpAuthorizationServer,
} from '../../../lib/oauth/http-authorization-server.js'
import {
  checkRefreshParameters,
  type RefreshedNeed,
  type RefreshParametersOption,
} from '../../../lib/oauth/token-endpoint/refresh-parameters.js'
import { json, type WireServer, wireServer } from '../../helpers/wire-server.js'

let wire: WireServer | undefined
afterEach(() => wire?.close())

/** What is sent for a refresh. */
async function sent(
  refreshParameters: RefreshParametersOption | undefined,
  need: RefreshedNeed = {},
  options: Partial<HttpAuthorizationServerOptions> = {},
): Promise<string | undefined> {
  await wire?.close()
  wire = await wireServer((_, response) => json(response, { access_token: 'at' }))
  const server = httpAuthorizationServer({
    tokenEndpoint: `${wire.url}/token`,
    clientId: 'web',
    clientAuthentication: publicClient(),
    clock: systemClock,
    ...(refreshParameters && { refreshParameters }),
    ...options,
  })
  await server.refresh('rt', { ...need, signal: AbortSignal.timeout(10_000) })
  return wire.requests[0]?.body
}

const OWN = 'grant_type=refresh_token&refresh_token=rt&client_id=web'

describe('refreshParameters', () => {
  it.each<[string, RefreshParametersOption | undefined, RefreshedNeed, string]>([
    ['none', undefined, {}, OWN],
    ['a scope', { scope: 'a offline_access' }, {}, `${OWN}&scope=a+offline_access`],
    ['a policy', { p: 'B2C_1_signin' }, {}, `${OWN}&p=B2C_1_signin`],
    ['several of one name', { resource: ['urn:a', 'urn:b'] }, {}, `${OWN}&resource=urn%3Aa&resource=urn%3Ab`],
    ['an empty text', { p: '' }, {}, OWN],
    ['an empty record', {}, { scope: 'b' }, `${OWN}&scope=b`],
    ['a scope, and the need names another', { scope: 'a', p: 'x' }, { scope: 'b' }, `${OWN}&scope=b&p=x`],
    [
      'a resource, and the need names another',
      { resource: 'urn:a' },
      { resource: 'urn:b' },
      `${OWN}&resource=urn%3Ab`,
    ],
    ['an audience, and the need names another', { audience: 'a' }, { audience: 'b' }, `${OWN}&audience=b`],
    ['a function that returns nothing', () => undefined, { scope: 'b' }, `${OWN}&scope=b`],
    ['a function that adds a parameter', () => ({ p: 'x' }), { scope: 'b' }, `${OWN}&scope=b&p=x`],
    [
      'a function that adds a scope',
      ({ scope }) => ({ scope: `${scope ?? 'openid'} offline_access` }),
      { scope: 'b c' },
      `${OWN}&scope=b+c+offline_access`,
    ],
    [
      'a function that adds a scope to none',
      ({ scope }) => ({ scope: `${scope ?? 'openid'} offline_access` }),
      {},
      `${OWN}&scope=openid+offline_access`,
    ],
    [
      'a function that adds a resource',
      ({ resource }) => ({ resource: ['urn:a', resource ?? ''] }),
      { resource: 'urn:b' },
      `${OWN}&resource=urn%3Aa&resource=urn%3Ab`,
    ],
  ])('%s', async (_, option, need, body) => {
    expect(await sent(option, need)).toBe(body)
  })

  it('passes a function what the need names, and nothing else', async () => {
    const received: unknown[] = []
    const option = (need: object) => void received.push(need)
    await sent(option as RefreshParametersOption, { scope: 'a' })
    await sent(option as RefreshParametersOption, { resource: 'urn:b', audience: 'c' })
    await sent(option as RefreshParametersOption)
    expect(received).toEqual([{ scope: 'a' }, { resource: 'urn:b', audience: 'c' }, {}])
  })

  it('sends nothing that is inherited', async () => {
    const inherits = Object.create({ p: 'x' })
    expect(await sent(inherits)).toBe(OWN)
    Object.assign(Object.prototype, { scope: 'polluted' })
    try {
      expect(await sent({ p: 'x' })).toBe(`${OWN}&p=x`)
    } finally {
      Reflect.deleteProperty(Object.prototype, 'scope')
    }
  })

  const RESERVED = [
    ...[
      'grant_type',
      'refresh_token',
      'client_id',
      'client_secret',
      'client_assertion',
      'client_assertion_type',
    ],
  ]

  it.each<[string, unknown, RegExp]>([
    ...RESERVED.map((name): [string, unknown, RegExp] => [
      name,
      { [name]: 'x' },
      new RegExp(`must not set ${name}`),
    ]),
    ['a text', 'scope=a', /plain object/],
    ['null', null, /plain object/],
    ['an array', ['a'], /plain object/],
    ['a form', new URLSearchParams('scope=a'), /plain object/],
    ['a map', new Map([['scope', 'a']]), /plain object/],
    ['a promise', Promise.resolve({ scope: 'a' }), /no promise/],
    ['a rejected promise', Promise.reject(new Error('no')), /no promise/],
    ['a number', { max_age: 60 }, /max_age is neither/],
    ['an array of numbers', { max_age: [60] }, /max_age is neither/],
    ['undefined', { p: undefined }, /p is neither\. Leave out/],
  ])('refuses %s: at construction, and from a function before anything is sent', async (_, value, why) => {
    const isRejected = value instanceof Promise
    if (isRejected) value.catch(() => {})
    expect(() => checkRefreshParameters(value)).toThrow(ConfigurationError)
    expect(() => checkRefreshParameters(value)).toThrow(why)
    const asked = sent((() => value) as RefreshParametersOption)
    await expect(asked).rejects.toThrow(ConfigurationError)
    await expect(asked).rejects.toThrow(why)
    expect(wire?.requests).toEqual([])
  })

  it('takes a function at construction, whatever it returns', () => {
    expect(() => checkRefreshParameters(() => 5)).not.toThrow()
  })

  it.each<[string, RefreshParametersOption, RefreshedNeed, RegExp]>([
    ['drops a scope', () => ({ scope: 'a' }), { scope: 'a b' }, /returned a scope that lacks/],
    ['drops all scopes', () => ({ scope: '' }), { scope: 'a' }, /returned a scope that lacks/],
    [
      'changes the resource',
      () => ({ resource: 'urn:a' }),
      { resource: 'urn:b' },
      /returned a resource that lacks/,
    ],
    [
      'changes the audience',
      () => ({ audience: ['a'] }),
      { audience: 'b' },
      /returned a audience that lacks/,
    ],
  ])('refuses a function that %s', async (_, option, need, why) => {
    await expect(sent(option, need)).rejects.toThrow(why)
    await expect(sent(option, need)).rejects.toThrow(ConfigurationError)
    expect(wire?.requests).toEqual([])
  })

  it('refuses a function that fails, without its message', async () => {
    const asked = sent(() => {
      throw new Error('a-secret')
    })
    const error = await asked.catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(ConfigurationError)
    expect(error).toMatchObject({ message: expect.stringMatching(/failed, so nothing was sent/) })
    expect(String((error as Error).cause)).not.toContain('a-secret')
    expect(wire?.requests).toEqual([])
  })

  it('refuses a parameter that the client authentication sets', async () => {
    const clientAuthentication = () => ({ parameters: { pin: 'real' } })
    await expect(sent({ pin: 'other' }, {}, { clientAuthentication })).rejects.toThrow(/must not set pin/)
    expect(wire?.requests).toEqual([])
    expect(await sent({ p: 'x' }, {}, { clientAuthentication: clientSecretPost('s') })).toContain(
      'client_secret=s',
    )
  })

  it('is not sent with acquire() or revoke()', async () => {
    wire = await wireServer((_, response) => json(response, { access_token: 'at' }))
    const server = httpAuthorizationServer({
      tokenEndpoint: `${wire.url}/token`,
      revocationEndpoint: `${wire.url}/revoke`,
      clientId: 'web',
      clientAuthentication: publicClient(),
      clock: systemClock,
      refreshParameters: { p: 'x' },
    })
    const signal = AbortSignal.timeout(10_000)
    await server.acquire({ grant_type: 'authorization_code', code: 'c' }, signal)
    await server.revoke('rt', 'refresh_token', signal)
    expect(wire.requests.map(({ body }) => body)).not.toContainEqual(expect.stringContaining('p=x'))
  })
})

import { AsyncResource } from 'node:async_hooks'
import type { ServerResponse } from 'node:http'
import { describe, expect, it } from '@jest/globals'
import { ConfigurationError, sessionAxios, sessionFetch } from '../../lib/index.js'
import { whileServing } from '../../lib/outbound/ambient.js'
import type { OutboundTokens } from '../../lib/token-source.js'
import { describeAmbient } from '../contract/ambient.js'
import { describeAmbientLoad } from '../contract/ambient-load.js'
import { frameworks } from '../helpers/frameworks.js'
import { outboundClients } from '../helpers/outbound-clients.js'

for (const framework of frameworks.filter(({ name }) => ['Express 5', 'Koa 3'].includes(name))) {
  describeAmbient(framework)
  describeAmbientLoad(framework)
}

const baseURL = 'http://127.0.0.1:1'

/** Tokens that say who has been asked. */
const tokensOf = (name: string): OutboundTokens => ({ tokenToSend: () => Promise.reject(new Error(name)) })
const request = (name: string, property = 'tokens', response: object = {}) => ({
  property,
  tokens: tokensOf(name),
  response: response as ServerResponse,
})

describe.each(outboundClients)('the $name of the whole app', (client) => {
  const asked = (property?: string) =>
    client
      .ambient({ baseURL, ...(property !== undefined && { property }) })({ url: '/' })
      .catch(({ message }: Error) => message)

  it('has the tokens of the innermost mount of a property', async () => {
    const response = {}
    const answers = await whileServing(request('app', 'tokens', response), () =>
      whileServing(request('path', 'tokens', response), () => asked()),
    )
    expect(answers).toBe('path')
  })

  it('has the tokens of an outer mount of the same request', async () => {
    const response = {}
    const answers = await whileServing(request('outer', 'outer', response), () =>
      whileServing(request('inner', 'inner', response), () => Promise.all([asked('outer'), asked('inner')])),
    )
    expect(answers).toEqual(['outer', 'inner'])
  })

  it('has no tokens of the request that another one was made in', async () => {
    const answers = await whileServing(request('outer', 'outer'), () =>
      whileServing(request('inner', 'inner'), () => Promise.all([asked('outer'), asked('inner')])),
    )
    expect(answers).toEqual([expect.stringContaining("has no tokens under 'outer'"), 'inner'])
  })

  it('in a queue that requests share has those of the request that drives it, unless it is bound', async () => {
    const queue: (() => Promise<unknown>)[] = []
    whileServing(request('alice'), () => {
      queue.push(() => asked(), AsyncResource.bind(() => asked()) as () => Promise<unknown>)
    })
    const answers = await whileServing(request('bob'), () => Promise.all(queue.map((work) => work())))
    expect(answers).toEqual(['bob', 'alice'])
  })
})

describe.each([
  ['sessionAxios', sessionAxios],
  ['sessionFetch', sessionFetch],
])('%s(config)', (name, make: (config: never) => unknown) => {
  it.each<[unknown, string]>([
    [undefined, `${name}() takes an object that names the API: ${name}({ baseURL`],
    [null, `${name}() takes an object`],
    [{}, 'must be absolute http or https URLs'],
    [{ baseURL: '/api' }, 'must be absolute http or https URLs'],
    [{ baseURL, replay: 'once' }, '`replay` must be'],
  ])('refuses %j, and names the cure', (config, message) => {
    expect(() => make(config as never)).toThrow(ConfigurationError)
    expect(() => make(config as never)).toThrow(message)
  })

  it('can be made before there is any request', () => {
    expect(make({ baseURL } as never)).toBeInstanceOf(Function)
  })
})

it('sessionFetch() refuses unknown options', () => {
  expect(() => sessionFetch({ baseURL, baseUrl: '' } as never)).toThrow(
    'sessionFetch() has no option `baseUrl`. Did you mean `baseURL`?',
  )
})

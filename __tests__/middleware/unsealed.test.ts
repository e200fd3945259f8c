import { beforeEach, expect, it, jest } from '@jest/globals'
import type { SessionTokensOptions } from '../../lib/index.js'

const key = 'UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c='
const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
beforeEach(() => {
  warn.mockClear()
})

/** The package as a process loads it first. */
async function load() {
  jest.resetModules()
  const express = await import('../../lib/index.js')
  const koa = await import('../../lib/koa.js')
  const valid = {
    tokenEndpoint: 'https://idp.example.com/token',
    clientId: 'web',
    clientAuthentication: express.publicClient(),
  }
  const mount = (options: Partial<SessionTokensOptions> = {}) => {
    express.sessionTokens({ ...valid, ...options } as SessionTokensOptions)
    koa.sessionTokens({ ...valid, ...options } as SessionTokensOptions)
  }
  return { express, mount }
}

const loaded = await load()

const once = [[expect.stringContaining('openssl rand -base64 32'), { code: 'SESSION_TOKENS_UNSEALED' }]]

it('without encryptionKeys the process warns once, however many mounts there are', async () => {
  const { mount } = await load()
  mount()
  mount({ property: 'others', sessionKey: 'others' })
  expect(warn.mock.calls).toEqual(once)
})

it("without encryptionKeys it warns with keep: 'store' as well: the key in the session opens the store's tokens", async () => {
  const { express, mount } = await load()
  mount({ keep: 'store', grants: express.memoryGrantStore() })
  expect(warn.mock.calls).toEqual(once)
})

it.each<[string, Partial<SessionTokensOptions>]>([
  ['encryptionKeys', { encryptionKeys: [key] }],
  ['encryptionKeys: false', { encryptionKeys: false }],
])('with %s there is no warning', async (_, options) => {
  const { mount } = await load()
  mount(options)
  expect(warn).not.toHaveBeenCalled()
})

it.each([null, true, 0, '', key, {}])('encryptionKeys: %j is rejected, with the cure', async (keys) => {
  const { mount } = loaded
  expect(() => mount({ encryptionKeys: keys as never })).toThrow(
    'encryptionKeys: [process.env.SESSION_KEY]. It may also be false',
  )
})

it('encryptionKeys: false leaves the tokens in the session unsealed', async () => {
  const { express } = loaded
  const written: string[] = []
  const session = () => ({
    read: () => written.at(-1),
    write: (text: string) => void written.push(text),
    clear() {},
  })
  const middleware = express.sessionTokens({
    tokenEndpoint: 'https://idp.example.com/token',
    clientId: 'web',
    clientAuthentication: express.publicClient(),
    encryptionKeys: false,
    session,
  })
  const { IncomingMessage, ServerResponse } = await import('node:http')
  const request = new IncomingMessage(null as never)
  await new Promise<void>((resolve) => middleware(request, new ServerResponse(request), () => resolve()))
  const { tokens } = request as typeof request & { tokens: { set(tokens: object): Promise<void> } }
  await tokens.set({ access_token: 'at-unsealed' })
  expect(written.at(-1)).toContain('at-unsealed')
})

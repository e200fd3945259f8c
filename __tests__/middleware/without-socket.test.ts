import { IncomingMessage, ServerResponse } from 'node:http'
import { afterEach, expect, it } from '@jest/globals'
import { clientSecretPost, type SessionTokens, sessionTokens } from '../../lib/index.js'

const client = {
  tokenEndpoint: 'http://127.0.0.1:1/token',
  clientId: 'web',
  clientAuthentication: clientSecretPost('secret'),
  encryptionKeys: false,
} as const

function session() {
  const texts: string[] = []
  return {
    read: () => texts.at(-1),
    write: (text: string) => void texts.push(text),
    clear: () => void texts.splice(0),
  }
}

/** Serves a request without a socket, as a test or an adapter makes one. Resolves with the result of `use`, and ends the response. */
async function serve<T>(
  middleware: ReturnType<typeof sessionTokens>,
  use: (tokens: SessionTokens) => Promise<T>,
): Promise<T> {
  const request = new IncomingMessage(null as never)
  const response = new ServerResponse(request)
  try {
    return await new Promise<T>((resolve, reject) => {
      middleware(request as never, response, (error) =>
        error
          ? reject(error)
          : use((request as unknown as { tokens: SessionTokens }).tokens).then(resolve, reject),
      )
    })
  } finally {
    response.emit('close')
  }
}

const login = { access_token: 'at', refresh_token: 'rt', expires_in: 3600 }

const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

it.each<[string, () => ReturnType<typeof sessionTokens>]>([
  ['of one client', () => sessionTokens({ ...client, session })],
  ['of tenants', () => sessionTokens({ tenant: () => 'a', options: () => ({ ...client, session }) })],
  ['that are ambient', () => sessionTokens({ ...client, session, ambient: true })],
])('a request without a socket has tokens %s, and a signal', async (_, make) => {
  const middleware = make()
  closing.push(() => middleware.close())
  const seen = await serve(middleware, async (tokens) => {
    await tokens.set(login)
    return [(await tokens.getAccessToken()).token, tokens.signal.aborted]
  })
  expect(seen).toEqual(['at', false])
})

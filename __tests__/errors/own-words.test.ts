import { afterEach, describe, expect, it } from '@jest/globals'
import { OwnError, type TokenError } from '../../lib/errors/token-error.js'
import { grantStoreError } from '../../lib/grants/grant-store-error.js'
import type { FailedRefresh } from '../../lib/oauth/authorization-server.js'
import { clientSecretPost } from '../../lib/oauth/client-authentication/client-authentication.js'
import { httpAuthorizationServer } from '../../lib/oauth/http-authorization-server.js'
import { json, type WireHandler, type WireServer, wireServer } from '../helpers/wire-server.js'

/** Tokens that are words, codes or letters of the library's own messages. */
const WORDS = [
  ...[
    'refresh',
    'Bearer',
    'token',
    'expired',
    'the',
    'The',
    'e',
    ' ',
    '.',
    'endpoint',
    'login',
    'again',
    'URL',
  ],
  ...[
    'invalid_grant',
    'grant',
    'invalid',
    'client',
    'scope',
    'interaction_required',
    'ERR',
    '503',
    'isGrantEnded',
  ],
  ...['Error', 'TypeError', 'ECONNREFUSED', 'REFUSED', 'TIMEOUT', 'OOM', 'store', 'redacted', '[redacted]'],
]
/** A token that is in none of them. */
const RANDOM = 'Zq7-Wx9~Kv3'

let wire: WireServer | undefined
afterEach(async () => {
  await wire?.close()
  wire = undefined
})

const unreachable = async () => {
  const closed = await wireServer(() => {})
  await closed.close()
  return closed
}
const failing = (handler: WireHandler) => () => wireServer(handler)
const refused = (error: string) => failing((_, response) => json(response, { error }, 400))

const FAILURES: [string, () => Promise<WireServer>][] = [
  ['an ended grant', refused('invalid_grant')],
  ['a refused scope', refused('invalid_scope')],
  ['a refused client', refused('invalid_client')],
  ['a refused client, as GitHub says it', refused('incorrect_client_credentials')],
  ['a login that is required', refused('interaction_required')],
  ['a server that is down', failing((_, response) => void response.writeHead(503).end())],
  ['a redirect', failing((_, response) => void response.writeHead(302, { location: '/' }).end())],
  ['a page', failing((_, response) => void response.writeHead(400).end('<html>'))],
  ['a success without a body', failing((_, response) => void response.end())],
  ['a success without a token', failing((_, response) => json(response, { scope: 'a' }))],
  ['no server', unreachable],
]

/** The words of the library in an error: neither the URL nor the text of a server. */
function ownWords(error: TokenError) {
  const { name, code, message, reason, error: serverCode, cause } = error
  return {
    name,
    code,
    message,
    reason,
    serverCode,
    cause: cause && { ...cause, name: (cause as Error).name },
  }
}

async function failureWith(secret: string, isGrantEnded?: () => boolean): Promise<TokenError> {
  const server = httpAuthorizationServer({
    tokenEndpoint: `${wire!.url}/t`,
    clientId: 'web',
    clientAuthentication: clientSecretPost(secret),
    ...(isGrantEnded && { isGrantEnded }),
    clock: { now: () => 0, monotonic: () => 0 },
  })
  const refresh = server.refresh(secret, { signal: AbortSignal.timeout(10_000), secrets: () => [secret] })
  return refresh.then(
    (response) => (response as FailedRefresh).error,
    (error) => error,
  )
}

describe("the library's own words are the same, whatever a token looks like", () => {
  it.each(FAILURES)('%s', async (_, start) => {
    wire = await start()
    const expected = ownWords(await failureWith(RANDOM))
    expect(JSON.stringify(expected)).not.toContain('[redacted]')
    for (const word of WORDS) expect([word, ownWords(await failureWith(word))]).toEqual([word, expected])
  })

  it('an isGrantEnded() that throws', async () => {
    wire = await refused('invalid_grant')()
    const throws = () => {
      throw new TypeError()
    }
    const expected = ownWords(await failureWith(RANDOM, throws))
    for (const word of WORDS)
      expect([word, ownWords(await failureWith(word, throws))]).toEqual([word, expected])
  })

  it.each<[string, unknown]>([
    ['does not respond', new OwnError('The grant store did not respond in time.')],
    ['cannot be reached', Object.assign(new Error(), { code: 'ECONNREFUSED' })],
    ['refuses a command', new Error('OOM')],
  ])('a grant store that %s', (_, cause) => {
    const shownWith = (secret: string) => {
      const error = grantStoreError('The grant store failed', { cause, secrets: [secret] })
      return [ownWords(error), cause instanceof OwnError && (error.cause as Error).message]
    }
    for (const word of WORDS) expect([word, shownWith(word)]).toEqual([word, shownWith(RANDOM)])
  })
})

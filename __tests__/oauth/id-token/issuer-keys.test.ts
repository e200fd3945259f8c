import { afterEach, describe, expect, it, jest } from '@jest/globals'
import { EncryptJWT, exportJWK, generateKeyPair, type JWK, SignJWT, UnsecuredJWT } from 'jose'
import { httpClient } from '../../../lib/oauth/http.js'
import { issuerKeys } from '../../../lib/oauth/id-token/issuer-keys.js'
import { type TestClock, testClock } from '../../helpers/clock.js'
import { json, type WireHandler, type WireServer, wireServer } from '../../helpers/wire-server.js'

interface Signer {
  readonly jwk: JWK
  sign(header?: object): Promise<string>
}

async function signer(kid: string | undefined, alg = 'ES256'): Promise<Signer> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
  const named = kid === undefined ? {} : { kid }
  return {
    jwk: { ...(await exportJWK(publicKey)), alg, use: 'sig', ...named },
    sign: (header = {}) =>
      new SignJWT({ sub: 'ada' }).setProtectedHeader({ alg, ...named, ...header }).sign(privateKey),
  }
}

const [first, second, rsa, nameless, otherNameless] = await Promise.all([
  signer('first'),
  signer('second'),
  signer('rsa', 'RS256'),
  signer(undefined),
  signer(undefined),
])

let wire: WireServer
let clock: TestClock
afterEach(async () => {
  jest.restoreAllMocks()
  await wire.close()
})

/** Checks signatures with the keys of an endpoint. */
async function keysAt(handler: WireHandler, secrets: string[] = [], path = '/jwks') {
  wire = await wireServer(handler)
  clock = testClock()
  const send = httpClient({ headers: { 'X-Tenant': 'acme' } })
  return issuerKeys(`${wire.url}${path}`, { send, clock, secrets })
}

const serving = (...keys: JWK[]) => keysAt((_, response) => json(response, { keys }))

/** Time for jose, which knows no other clock than the machine's. */
function later(ms: number): void {
  const now = Date.now() + ms
  jest.spyOn(Date, 'now').mockReturnValue(now)
  clock.advance(ms)
}

describe('signatureOf(idToken), over issuerKeys(jwksUri, source)', () => {
  it('is good when the issuer has signed it; the keys are fetched once, with the headers of every request', async () => {
    const signatureOf = await serving(first.jwk, rsa.jwk)
    const verdicts = await Promise.all([first, rsa, first].map(async ({ sign }) => signatureOf(await sign())))
    expect(verdicts).toEqual(Array(3).fill({ verdict: 'good' }))
    expect(wire.requests).toHaveLength(1)
    expect(wire.requests[0]?.headers).toMatchObject({
      'x-tenant': 'acme',
      'user-agent': 'session-token-manager',
    })
  })

  it.each<[string, Signer]>([
    ['the first', nameless],
    ['the last', otherNameless],
  ])('is good when %s of two keys without a name has signed it', async (_, { sign }) => {
    const signatureOf = await serving(nameless.jwk, otherNameless.jwk)
    expect(await signatureOf(await sign())).toEqual({ verdict: 'good' })
  })

  it('is good for an encrypted one, and nothing is fetched', async () => {
    const signatureOf = await serving(first.jwk)
    const encrypted = await new EncryptJWT({})
      .setProtectedHeader({ alg: 'dir', enc: 'A256GCM' })
      .encrypt(new Uint8Array(32))
    expect(await signatureOf(encrypted)).toEqual({ verdict: 'good' })
    expect(wire.requests).toHaveLength(0)
  })

  const tampered = async ({ sign }: Signer) => {
    const [header, , signature] = (await sign()).split('.')
    return `${header}.${Buffer.from('{"sub":"eve"}').toString('base64url')}.${signature}`
  }
  it.each<[string, () => Promise<string>, RegExp]>([
    ['of another key of that name', () => second.sign({ kid: 'first' }), /not signed by its issuer/],
    ['of other claims', () => tampered(first), /not signed by its issuer/],
    ['of none of the keys without a name', () => tampered(nameless), /not signed by its issuer/],
    ['of four parts', async () => `${await first.sign()}.x`, /well-formed/],
    ['with a signature that is no text of 64 digits', async () => `${await first.sign()}!`, /well-formed/],
    ['that is garbage', async () => 'garbage', /well-formed/],
  ])('is bad: one %s', async (_, idToken, why) => {
    const signatureOf = await serving(first.jwk, nameless.jwk, otherNameless.jwk)
    expect(await signatureOf(await idToken())).toEqual({
      verdict: 'bad',
      why: expect.stringMatching(why),
    })
  })

  it('is unknown without a signature', async () => {
    const signatureOf = await serving(first.jwk)
    expect(await signatureOf(new UnsecuredJWT({}).encode())).toEqual({
      verdict: 'unknown',
      error: expect.objectContaining({
        code: 'ERR_INVALID_TOKEN_RESPONSE',
        message: expect.stringMatching(/alg none/),
      }),
    })
  })

  it('is unknown with the client secret, and nothing is fetched', async () => {
    const signatureOf = await serving(first.jwk)
    const idToken = await new SignJWT({}).setProtectedHeader({ alg: 'HS256' }).sign(new Uint8Array(32))
    expect(await signatureOf(idToken)).toMatchObject({
      verdict: 'unknown',
      error: { code: 'ERR_INVALID_TOKEN_RESPONSE', message: expect.stringContaining('HS256') },
    })
    expect(wire.requests).toHaveLength(0)
  })

  it('is unknown without a matching key; after five seconds the keys are fetched again', async () => {
    const keys = [first.jwk]
    const signatureOf = await keysAt((_, response) => json(response, { keys }))
    const rotated = await second.sign()
    expect((await signatureOf(rotated)).verdict).toBe('unknown')
    keys.push(second.jwk)
    expect((await signatureOf(rotated)).verdict).toBe('unknown')
    expect(wire.requests).toHaveLength(1)
    later(5_001)
    expect(await signatureOf(rotated)).toEqual({ verdict: 'good' })
    expect(wire.requests).toHaveLength(2)
  })

  it('is good when the issuer has replaced a key by one of the same name', async () => {
    const keys = [first.jwk]
    const signatureOf = await keysAt((_, response) => json(response, { keys }))
    expect((await signatureOf(await first.sign())).verdict).toBe('good')
    keys[0] = { ...second.jwk, kid: 'first' }
    later(5_001)
    expect(await signatureOf(await second.sign({ kid: 'first' }))).toEqual({ verdict: 'good' })
  })

  it('is unknown when the issuer may have replaced a key of that name since the keys were fetched', async () => {
    let keys = [first.jwk]
    const signatureOf = await keysAt((_, response) => json(response, { keys }))
    expect(await signatureOf(await first.sign())).toEqual({ verdict: 'good' })
    keys = [{ ...second.jwk, kid: 'first' }]
    const replaced = await second.sign({ kid: 'first' })
    expect(await signatureOf(replaced)).toMatchObject({
      verdict: 'unknown',
      error: { code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE', retryable: true },
    })
    expect(wire.requests).toHaveLength(1)
    later(6_000)
    expect(await signatureOf(replaced)).toEqual({ verdict: 'good' })
    expect(await signatureOf(await first.sign())).toMatchObject({ verdict: 'unknown' })
    expect(wire.requests).toHaveLength(2)
    later(6_000)
    expect(await signatureOf(await first.sign())).toMatchObject({ verdict: 'bad' })
  })

  it.each<[string, WireHandler, object]>([
    [
      'the connection breaks',
      (_, response) => response.destroy(),
      { code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE', retryable: true },
    ],
    [
      'the server is out of order',
      (_, response) => json(response, {}, 503, { 'retry-after': '7' }),
      { code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE', retryAfterMs: 7_000 },
    ],
    ['there is no page', (_, response) => json(response, {}, 404), { code: 'ERR_INVALID_TOKEN_RESPONSE' }],
    [
      'a redirect, which is not followed',
      (_, response) => json(response, {}, 302, { location: '/elsewhere' }),
      { code: 'ERR_INVALID_TOKEN_RESPONSE' },
    ],
    ['no content', (_, response) => response.writeHead(204).end(), { code: 'ERR_INVALID_TOKEN_RESPONSE' }],
    [
      'more than 1 MB',
      (_, response) => json(response, { keys: [], padding: 'x'.repeat(1024 * 1024) }),
      { code: 'ERR_INVALID_TOKEN_RESPONSE', message: expect.stringContaining('larger than 1 MB') },
    ],
    ['no JSON', (_, response) => response.end('<html>'), { code: 'ERR_INVALID_TOKEN_RESPONSE' }],
    ['no keys', (_, response) => json(response, { keys: 5 }), { code: 'ERR_INVALID_TOKEN_RESPONSE' }],
  ])('is unknown when the keys cannot be fetched: %s', async (_, handler, error) => {
    const signatureOf = await keysAt(handler)
    expect(await signatureOf(await first.sign())).toMatchObject({ verdict: 'unknown', error })
    expect(wire.requests.map(({ path }) => path)).toEqual(['/jwks'])
  })

  it('fetches again five seconds after a failure, not before', async () => {
    let up = false
    const signatureOf = await keysAt((_, response) =>
      up ? json(response, { keys: [first.jwk] }) : json(response, {}, 500),
    )
    expect((await signatureOf(await first.sign())).verdict).toBe('unknown')
    up = true
    expect((await signatureOf(await first.sign())).verdict).toBe('unknown')
    clock.advance(5_000)
    expect((await signatureOf(await first.sign())).verdict).toBe('good')
    expect(wire.requests).toHaveLength(2)
  })

  it('shows no secret in an error', async () => {
    const signatureOf = await keysAt(
      (_, response) => json(response, {}, 404),
      ['secret-path'],
      '/secret-path',
    )
    expect(JSON.stringify(await signatureOf(await first.sign()))).not.toContain('secret-path')
  })
})

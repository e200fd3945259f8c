import { createSecretKey, generateKeyPairSync, hkdfSync, randomBytes } from 'node:crypto'
import { describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { CompactEncrypt, compactDecrypt, decodeProtectedHeader } from 'jose'
import { ConfigurationError } from '../../lib/errors.js'
import { checkEncryptionKeys, type EncryptionKey, type Seal, seal } from '../../lib/sessions/sealing.js'
import { SessionCopies } from '../../lib/sessions/session-copy.js'

const key = 'UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c='
const otherKey = '9pQ2mHc1jvW0Hk8n3sZr5tYb7uXo4aLd6eGfKiJl2wM='
const text = '{"refreshToken":"rt ü 🔑"}'

describe('seal(keys, audience)', () => {
  it('opens what it sealed', () => {
    const { seal: sealIt, open } = seal([key], 'web')
    expect(open(sealIt(text))).toBe(text)
  })

  it('seals the same text differently each time, and lets none of it be read', () => {
    const { seal: sealIt } = seal([key], 'web')
    expect(sealIt(text)).not.toBe(sealIt(text))
    const parts = sealIt(text)
      .split('.')
      .map((part) => Buffer.from(part, 'base64url').toString())
    expect(parts.join()).not.toContain('rt')
  })

  it('makes the JWE that jose opens', async () => {
    const sealed = seal([key], 'web').seal(text)
    const { plaintext, protectedHeader } = await compactDecrypt(sealed, derivedKey())
    expect(new TextDecoder().decode(plaintext)).toBe(text)
    expect(protectedHeader).toEqual({ alg: 'dir', enc: 'A256GCM', kid: expect.any(String) })
  })

  it('opens the JWE that jose makes', async () => {
    const { seal: sealIt, open } = seal([key], 'web')
    const header = decodeProtectedHeader(sealIt('')) as { alg: 'dir'; enc: 'A256GCM'; kid: string }
    const made = new CompactEncrypt(new TextEncoder().encode(text)).setProtectedHeader(header)
    expect(open(await made.encrypt(derivedKey()))).toBe(text)
  })

  it('seals with the first key and opens with all', () => {
    const before = seal([key], 'web').seal(text)
    const rotated = seal([otherKey, key], 'web')
    expect(rotated.open(before)).toBe(text)
    expect(seal([otherKey], 'web').open(rotated.seal(text))).toBe(text)
    expect(seal([key], 'web').open(rotated.seal(text))).toBeUndefined()
  })

  it.each<[string, EncryptionKey]>([
    ['bytes', randomBytes(32)],
    ['more bytes', new Uint8Array(64).fill(7)],
    ['a KeyObject', createSecretKey(randomBytes(32))],
  ])('takes %s for a key', (_, key) => {
    const { seal: sealIt, open } = seal([key], 'web')
    expect(open(sealIt(text))).toBe(text)
  })

  it.each<[string, Seal]>([
    ['another key', seal([otherKey], 'web')],
    ['another audience', seal([key], 'web2')],
  ])('does not open what was sealed for %s', (_, other) => {
    expect(seal([key], 'web').open(other.seal(text))).toBeUndefined()
  })

  it('opens nothing that was changed, wherever and however', () => {
    const { seal: sealIt, open } = seal([key], 'web')
    const sealed = sealIt(text)
    const changes = fc.tuple(fc.nat(sealed.length - 1), fc.string({ maxLength: 3 }), fc.nat(3))
    fc.assert(
      fc.property(changes, ([at, put, length]) => {
        const changed = sealed.slice(0, at) + put + sealed.slice(at + length)
        const same = changed
          .split('.')
          .every((part, i) => decoded(part) === decoded(sealed.split('.')[i] ?? ''))
        const result = open(changed)
        expect(same && result === text ? undefined : result).toBeUndefined()
      }),
      { numRuns: 2_000 },
    )
  })

  it.each(['', '.', '....', 'eyJ', text, `${'a'.repeat(100_000)}`])('takes %# for nothing', (sealed) => {
    expect(seal([key], 'web').open(sealed)).toBeUndefined()
  })

  it('does not take a shorter tag', () => {
    const { seal: sealIt, open } = seal([key], 'web')
    const [header, none, iv, ciphertext, tag] = sealIt(text).split('.')
    const short = Buffer.from(tag!, 'base64url').subarray(0, 4).toString('base64url')
    expect(open([header, none, iv, ciphertext, short].join('.'))).toBeUndefined()
  })
})

describe('checkEncryptionKeys(keys)', () => {
  it.each<[string, unknown]>([
    ['Base64 of 32 bytes', [key]],
    ['hexadecimal of 16 bytes', ['3f8a1c5e9b2d7046e1f3a5c7b9d02468']],
    ['bytes', [randomBytes(32)]],
    ['several', [key, otherKey]],
  ])('takes %s', (_, keys) => {
    expect(() => checkEncryptionKeys(keys)).not.toThrow()
  })

  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  it.each<[string, unknown, RegExp]>([
    ['no list', key, /must be a list of keys/],
    ['an empty list', [], /must be a list of keys/],
    [
      'an environment variable that is not set',
      [undefined],
      /`encryptionKeys\[0\]` is undefined\. Is the environment variable set\?/,
    ],
    ['a word', [key, 'secret'], /encryptionKeys\[1\]` is too easily guessed/],
    ['a long word', ['a'.repeat(200)], /is too easily guessed/],
    ['a phrase', ['my session secret my session'], /is too easily guessed/],
    ['few bytes', [randomBytes(16)], /has 16 bytes; it must have at least 32/],
    ['a short KeyObject', [createSecretKey(randomBytes(16))], /has 16 bytes/],
    ['a private key', [privateKey], /is no secret key/],
    ['a number', [42], /is neither a text nor bytes/],
  ])('refuses %s and says how to make one', (_, keys, message) => {
    expect(() => checkEncryptionKeys(keys)).toThrow(ConfigurationError)
    expect(() => checkEncryptionKeys(keys)).toThrow(message)
    expect(() => checkEncryptionKeys(keys)).toThrow(/openssl rand|process\.env/)
  })
})

describe('copies that are sealed', () => {
  const tokens = { grantId: 'g', revision: 1, accessTokens: [], refreshToken: 'rt' }

  it('are opened once, however often they are read', () => {
    const { seal: sealIt, open } = seal([key], 'web')
    let opened = 0
    const counting = {
      seal: sealIt,
      open(text: string) {
        opened++
        return open(text)
      },
    }
    const writer = new SessionCopies('web', seal([key], 'web'))
    const reader = new SessionCopies('web', counting)
    const copies = [1, 2, 3].map((revision) => writer.write({ ...tokens, revision }))
    for (let round = 0; round < 10; round++) for (const copy of copies) reader.read(copy)
    expect(opened).toBe(3)
    expect(reader.read(copies[2])).toEqual({ ...tokens, revision: 3 })
  })

  it('are not opened at all by those who wrote them, and are sealed once', () => {
    const writer = new SessionCopies('web', { seal: (text) => `sealed ${text}`, open: () => 'never' })
    const copy = writer.write(tokens)
    expect(writer.write(tokens)).toBe(copy)
    expect(writer.read(copy)).toBe(tokens)
  })

  it('are the only ones taken', () => {
    const copy = new SessionCopies('web').write(tokens)
    expect(new SessionCopies('web', seal([key], 'web')).read(copy)).toBeUndefined()
    expect(
      new SessionCopies('web').read(new SessionCopies('web', seal([key], 'web')).write(tokens)),
    ).toBeUndefined()
  })
})

function derivedKey(): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', Buffer.from(key), '', 'session-token-manager web', 32))
}

function decoded(part: string): string {
  return Buffer.from(part, 'base64url').toString('hex')
}

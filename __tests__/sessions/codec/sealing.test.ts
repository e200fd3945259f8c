import { createSecretKey, generateKeyPairSync, hkdfSync, randomBytes } from 'node:crypto'
import { describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { CompactEncrypt, compactDecrypt, decodeProtectedHeader } from 'jose'
import { ConfigurationError } from '../../../lib/errors/token-error.js'
import {
  checkEncryptionKeys,
  type EncryptionKey,
  type Seal,
  seal,
} from '../../../lib/sessions/codec/sealing.js'
import { TokenSetCodec } from '../../../lib/sessions/codec/token-set-codec.js'
import type { TokenSet } from '../../../lib/tokens/token-set.js'

const key = 'UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c='
const otherKey = '9pQ2mHc1jvW0Hk8n3sZr5tYb7uXo4aLd6eGfKiJl2wM='
const text = '{"refreshToken":"rt ü 🔑"}'

describe('seal(keys, audience)', () => {
  it('opens the text that it has sealed', () => {
    const { seal: sealIt, open } = seal([key], 'web')
    expect(open(sealIt(text))).toBe(text)
  })

  it('seals the same text differently each time, and no part of it can be read', () => {
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
  ])('accepts %s as a key', (_, key) => {
    const { seal: sealIt, open } = seal([key], 'web')
    expect(open(sealIt(text))).toBe(text)
  })

  it.each<[string, Seal]>([
    ['another key', seal([otherKey], 'web')],
    ['another audience', seal([key], 'web2')],
  ])('does not open a text that was sealed for %s', (_, other) => {
    expect(seal([key], 'web').open(other.seal(text))).toBeUndefined()
  })

  it('opens no text that was changed, at any position', () => {
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

  it.each(['', '.', '....', 'eyJ', text, `${'a'.repeat(100_000)}`])('opens no invalid text: %#', (sealed) => {
    expect(seal([key], 'web').open(sealed)).toBeUndefined()
  })

  it('rejects a shorter tag', () => {
    const { seal: sealIt, open } = seal([key], 'web')
    const [header, none, iv, ciphertext, tag] = sealIt(text).split('.')
    const short = Buffer.from(tag!, 'base64url').subarray(0, 4).toString('base64url')
    expect(open([header, none, iv, ciphertext, short].join('.'))).toBeUndefined()
  })
})

describe('a text that an earlier version has sealed', () => {
  const bytes = Buffer.from(key, 'base64')
  it.each<[string, EncryptionKey, string]>([
    [
      'the text of a key',
      key,
      'eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIiwia2lkIjoiS3h1RG5WZnVBTFQifQ..7Ug5gRw1Krdv9LcJ.8ALUn4vD2IQfxWAAoqkjKMBDoZJr.dY9dFlfJ2xUZjemi51zKcw',
    ],
    [
      'the text in Base64url',
      bytes.toString('base64url'),
      'eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIiwia2lkIjoibkxheHFzUlVhdkoifQ..Xpb2Tdx03F0rcY_-.EMFc95lSnfT3kcnsWKbHUtqt5rSb.LgNpK_WeZsIjv2DC6xyypA',
    ],
    [
      'hexadecimal digits',
      bytes.toString('hex'),
      'eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIiwia2lkIjoieUw2akN0LXlLaTgifQ..J9cp6XyPLWBKRT3X.2CnKt6Y08naC7jbZqxAZpLyYFUi6.LA609Z_vCCQbdkB5S4CbPw',
    ],
    [
      'the text with the line end of its file',
      `${key}\n`,
      'eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIiwia2lkIjoibWVZdWxGOGpwaVcifQ..55c_Xw9IMrDEuofh.UDWaxIQ6aa53F07cnrsGxPGDKWZn.RHojbJJt3TbtxSqM1tZkaw',
    ],
    [
      'bytes',
      bytes,
      'eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIiwia2lkIjoidFVmQVdqbi1nbzkifQ..OVP3Z5epW8u69x2p.dapUU_f_Hwh7P9lF0R1UffPnYZJQ.7xq-i-2mz8TL4FLUXZojJA',
    ],
  ])('with %s is opened', (_, key, sealed) => {
    expect(() => checkEncryptionKeys([key])).not.toThrow()
    expect(seal([key], 'web').open(sealed)).toBe('{"refreshToken":"rt"}')
  })
})

describe('checkEncryptionKeys(keys)', () => {
  it.each<[string, (bytes: Buffer) => unknown]>([
    ['Base64', (bytes) => bytes.toString('base64')],
    ['Base64 without padding', (bytes) => bytes.toString('base64').replace(/=+$/, '')],
    ['Base64 with a line end', (bytes) => `${bytes.toString('base64')}\r\n`],
    ['Base64 on several lines', (bytes) => bytes.toString('base64').replace(/.{32}/g, '$&\n')],
    ['Base64url', (bytes) => bytes.toString('base64url')],
    ['hexadecimal digits', (bytes) => bytes.toString('hex')],
    ['capital hexadecimal digits', (bytes) => bytes.toString('hex').toUpperCase()],
    ['the bytes', (bytes) => bytes],
    ['a Uint8Array of the bytes', (bytes) => new Uint8Array(bytes)],
    ['a KeyObject of the bytes', (bytes) => createSecretKey(bytes)],
    ['the bytes of the text', (bytes) => Buffer.from(bytes.toString('base64'))],
    ['a KeyObject of the text', (bytes) => createSecretKey(Buffer.from(bytes.toString('hex')))],
  ])('accepts %s of any 32 random bytes or more', (_, form) => {
    for (let at = 0; at < 500; at++) {
      const key = form(randomBytes(32 + (at % 33)))
      expect(() => checkEncryptionKeys([key])).not.toThrow()
    }
  })

  it('accepts several keys', () => {
    expect(() => checkEncryptionKeys([key, otherKey])).not.toThrow()
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
    ['a word', [key, 'secret'], /encryptionKeys\[1\]` is no key of 32 bytes/],
    ['hexadecimal of 16 bytes', ['3f8a1c5e9b2d7046e1f3a5c7b9d02468'], /is no key of 32 bytes/],
    ['Base64 of 31 bytes', [randomBytes(31).toString('base64')], /is no key of 32 bytes/],
    ['few bytes', [randomBytes(16)], /has 16 bytes; it must have at least 32/],
    ['a short KeyObject', [createSecretKey(randomBytes(16))], /has 16 bytes/],
    ['a private key', [privateKey], /is no secret key/],
    ['a number', [42], /is neither a text nor bytes/],
    ['an object', [{}], /is neither a text nor bytes/],
  ])('rejects %s and says how to make a key', (_, keys, message) => {
    expect(() => checkEncryptionKeys(keys)).toThrow(ConfigurationError)
    expect(() => checkEncryptionKeys(keys)).toThrow(message)
    expect(() => checkEncryptionKeys(keys)).toThrow(/openssl rand|process\.env/)
  })

  it.each([
    'my session secret my session',
    'the quick brown fox jumps over the lazy dog',
    'Tr0ub4dor&3 and the horse, 2024!',
    'an encryption key of 44 characters, at least 32',
    'your-256-bit-secret-your-256-bit-secret',
    'correct-horse-battery-staple-and-some-more-words',
    'CorrectHorseBatteryStapleAndSomeMoreWordsHere99',
    'thequickbrownfoxjumpsoverthelazydogandrunsaway',
    'SuperSecretKeyThatNobodyWillEverGuess12345678',
    'MY_SECRET_SESSION_KEY_FOR_PRODUCTION_ENVIRONMENT',
    'qwertyuiopasdfghjklzxcvbnm1234567890QWERTYUIOP',
    'changeme'.repeat(6),
    'undefined'.repeat(5),
    'ab'.repeat(50),
    'Tr0ub4dor&3-correct-Horse_BATTERY.staple!9Qz',
    'https://Admin:Zx9!kq@Db-4.example.com:5432/Wj?v=7#Tg',
    'Größe, Maß & Übermut: 7 Vögel jagen 9 Füchse im Wald!',
    'секретный пароль для сессии',
    'Пароль для сессий: Ёжик, чай & 42 щенка в лесу!',
  ])(
    'rejects the passphrase %j, as text, in Base64, in hexadecimal, as bytes and KeyObject',
    (passphrase) => {
      const bytes = Buffer.from(passphrase.padEnd(32))
      const forms = (['base64', 'base64url', 'hex'] as const).map((form) => bytes.toString(form))
      for (const key of [passphrase, ...forms, bytes, createSecretKey(bytes)]) {
        expect(() => checkEncryptionKeys([key])).toThrow(
          /guessed|is no key of 32 bytes.*openssl rand -base64 32/,
        )
      }
    },
  )

  const counting = (step: number) => Uint8Array.from({ length: 48 }, (_, at) => (at * step) % 256)
  it.each<[string, Uint8Array]>([
    ['zeros', Buffer.alloc(32)],
    ['ones', Buffer.alloc(64, 255)],
    ['two that alternate', Buffer.alloc(32, Buffer.from([3, 250]))],
    [
      'half of them twice',
      Buffer.concat(Array(2).fill(Buffer.from('9f03c1e27a5b48d6309fc1e2d47a5b86', 'hex'))),
    ],
    ['0, 1, 2, …', counting(1)],
    ['…, 2, 1, 0', counting(1).reverse()],
    ['7, 14, 21, …', counting(7)],
    ['two of them at random', randomBytes(48).map((byte) => byte % 2)],
  ])('rejects bytes that are no key: %s, in every form', (_, bytes) => {
    const texts = (['base64', 'base64url', 'hex'] as const).map((form) => Buffer.from(bytes).toString(form))
    for (const key of [bytes, createSecretKey(bytes), ...texts]) {
      expect(() => checkEncryptionKeys([key])).toThrow(/guessed.*openssl rand -base64 32/)
    }
  })

  it.each(['a'.repeat(64), '0123456789abcdef'.repeat(4), 'deadbeef'.repeat(8), '01'.repeat(40)])(
    'rejects digits that repeat: %s',
    (digits) => {
      expect(() => checkEncryptionKeys([digits])).toThrow('is too easily guessed')
    },
  )
})

describe('copies that are sealed', () => {
  const tokens = { grantId: 'g', revision: 1, accessTokens: [], refreshToken: 'rt' }

  it('are opened once, however often they are read', () => {
    const real = seal([key], 'web')
    let opened = 0
    const counting = {
      ...real,
      open(text: string) {
        opened++
        return real.open(text)
      },
    }
    const writer = new TokenSetCodec('web', seal([key], 'web'))
    const reader = new TokenSetCodec('web', counting)
    const copies = [1, 2, 3].map((revision) => writer.write({ ...tokens, revision }))
    for (let round = 0; round < 10; round++) for (const copy of copies) reader.read(copy)
    expect(opened).toBe(3)
    expect(reader.read(copies[2])).toEqual({ ...tokens, revision: 3 })
  })

  it('leave the memory when their grant ends, and stay there when another grant ends', () => {
    let opened = 0
    const counting = {
      ...seal([key], 'web'),
      open(text: string) {
        opened++
        return seal([key], 'web').open(text)
      },
    }
    let ended = ''
    const holdsEndedTokens = ({ grantId }: TokenSet) => grantId === ended
    const reader = new TokenSetCodec('web', counting, () => true, { holdsEndedTokens })
    const writer = new TokenSetCodec('web', seal([key], 'web'))
    const [one, newer, other] = [{ revision: 1 }, { revision: 2 }, { grantId: 'other' }].map((change) =>
      writer.write({ ...tokens, ...change }),
    )
    const openedFor = (read: () => unknown) => {
      const before = opened
      expect(read()).toBeDefined()
      return opened - before
    }
    for (const copy of [one, newer, other]) expect(openedFor(() => reader.read(copy))).toBe(1)
    for (const copy of [one, newer, other]) expect(openedFor(() => reader.read(copy))).toBe(0)
    ended = 'g'
    reader.forgetEnded('g')
    expect(openedFor(() => reader.read(other))).toBe(0)
    for (const copy of [one, newer, one, one]) expect(openedFor(() => reader.read(copy))).toBe(1)
    // What is written late is not held either.
    const late = reader.write({ ...tokens, revision: 3 })
    expect(openedFor(() => reader.read(late))).toBe(1)
  })

  it('are sealed once, and not opened by the process that has written them', () => {
    const writer = new TokenSetCodec('web', {
      seal: (text) => `sealed ${text}`,
      open: () => 'never',
      names: () => true,
    })
    const copy = writer.write(tokens)
    expect(writer.write(tokens)).toBe(copy)
    expect(writer.read(copy)).toBe(tokens)
  })

  it('are the only copies that are accepted', () => {
    const copy = new TokenSetCodec('web').write(tokens)
    expect(new TokenSetCodec('web', seal([key], 'web')).read(copy)).toBeUndefined()
    expect(
      new TokenSetCodec('web').read(new TokenSetCodec('web', seal([key], 'web')).write(tokens)),
    ).toBeUndefined()
  })
})

function derivedKey(): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', Buffer.from(key), '', 'session-token-manager web', 32))
}

function decoded(part: string): string {
  return Buffer.from(part, 'base64url').toString('hex')
}

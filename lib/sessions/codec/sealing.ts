import { createCipheriv, createDecipheriv, createHash, hkdfSync, KeyObject, randomBytes } from 'node:crypto'
import { ConfigurationError } from '../../errors/token-error.js'
import { areWeakKeys, isWeakKey } from './weak-encryption-keys.js'

/** The Base64, Base64url or hexadecimal text of at least 32 random bytes, such bytes, or a secret `KeyObject` of them. */
export type EncryptionKey = string | Uint8Array | KeyObject

/** Seals texts, so that they can be neither read nor forged, and opens them again. */
export interface Seal {
  seal(text: string): string
  /** Opens a text; `undefined` if it was sealed with another key or for another audience, or was changed. */
  open(sealed: string): string | undefined
  /** Whether a text names one of the keys, so that it was sealed with this key unless it was changed. */
  names(sealed: string): boolean
  /**
   * How many times a key has been removed. After each time, a text that was sealed with an earlier key may be unreadable. The
   * property is absent if the keys do not change.
   */
  readonly removals?: number
}

interface DerivedKey {
  readonly key: Uint8Array
  /** The encoded protected header of the texts that are sealed with the key (RFC 7516 §2). */
  readonly header: string
}

const KEY_BYTES = 32
const IV_BYTES = 12
const TAG_BYTES = 16

/**
 * Seals texts as JWE, direct encryption with A256GCM in the compact serialization (RFC 7516, RFC 7518 §4.5 and §5.3). The
 * first key seals, all open.
 *
 * Each key is derived (HKDF, RFC 5869) from the given key and `audience`, so a text for one audience cannot be opened for
 * another. Sealing and opening return no promise, as a session has to be read at once.
 */
export function seal(keys: readonly EncryptionKey[], audience: string): Seal {
  const derived = keys.map((key) => derivedKey(key, audience))
  const keyOf = (text: string) => derived.find(({ header }) => text.startsWith(`${header}.`))
  return {
    seal: (text) => sealed(text, derived[0]!),
    open(text) {
      const key = keyOf(text)
      return key && opened(text, key)
    },
    names: (text) => keyOf(text) !== undefined,
  }
}

/** Whether a text has the form of a sealed text, whatever its key. */
export function isSealed(text: string): boolean {
  return /^eyJ[\w-]+\.\.[\w-]+\.[\w-]+\.[\w-]+$/.test(text)
}

function derivedKey(secret: EncryptionKey, audience: string): DerivedKey {
  const info = `session-token-manager ${audience}`
  const key = new Uint8Array(hkdfSync('sha256', bytesOf(secret), new Uint8Array(), info, KEY_BYTES))
  const kid = createHash('sha256').update(key).digest('base64url').slice(0, 11)
  return { key, header: base64url(JSON.stringify({ alg: 'dir', enc: 'A256GCM', kid })) }
}

export function bytesOf(secret: EncryptionKey): Uint8Array {
  if (typeof secret === 'string') return Buffer.from(secret)
  return secret instanceof KeyObject ? secret.export() : secret
}

function sealed(text: string, { key, header }: DerivedKey): string {
  const iv = randomBytes(IV_BYTES)
  const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(header))
  const ciphertext = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()])
  return [header, '', ...[iv, ciphertext, cipher.getAuthTag()].map(base64url)].join('.')
}

function opened(text: string, { key, header }: DerivedKey): string | undefined {
  const [, encryptedKey, ...parts] = text.split('.')
  const [iv, ciphertext, tag] = parts.map((part) => Buffer.from(part, 'base64url'))
  if (encryptedKey !== '' || parts.length !== 3 || iv?.length !== IV_BYTES || tag?.length !== TAG_BYTES)
    return undefined
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: TAG_BYTES })
    decipher.setAAD(Buffer.from(header)).setAuthTag(tag)
    return Buffer.concat([decipher.update(ciphertext!), decipher.final()]).toString('utf8')
  } catch {
    return undefined
  }
}

function base64url(data: string | Uint8Array): string {
  return Buffer.from(data).toString('base64url')
}

/** Checks the keys. Throws a {@link ConfigurationError} for a key that cannot be used; its message says how to make one. */
export function checkEncryptionKeys(keys: unknown): void {
  if (!Array.isArray(keys) || keys.length === 0) {
    throw new ConfigurationError(
      '`encryptionKeys` must be a list of keys, the newest first: encryptionKeys: [process.env.SESSION_KEY]. It may also be ' +
        'false, where tokens are not to be sealed.',
    )
  }
  for (const [index, key] of keys.entries()) {
    const problem = problemOf(key)
    if (!problem) continue
    throw new ConfigurationError(
      `\`encryptionKeys[${index}]\` ${problem} Make a key with: openssl rand -base64 32.`,
    )
  }
}

/** Matches the line ends that `openssl rand` prints, and that a file has at its end. */
const LINE_ENDS = /[\r\n]/g
const HEX = /^(?:[\da-f]{2})+$/i
/** Base64, or Base64url, padded or not (RFC 4648 §4 and §5). */
const BASE64 = /^(?:[A-Za-z\d+/]+|[\w-]+)={0,2}$/
/** Matches a printable text. Less than one of 2^30 random keys is such a text. */
const PRINTABLE = /^[^\p{Cc}\p{Cn}]+$/u

function problemOf(key: unknown): string | undefined {
  if (key === undefined) return 'is undefined. Is the environment variable set?'
  if (typeof key === 'string') return problemOfText(key)
  if (key instanceof KeyObject && key.type !== 'secret') return 'is no secret key.'
  if (!(key instanceof KeyObject || key instanceof Uint8Array)) {
    return 'is neither a text nor bytes nor a KeyObject.'
  }
  const bytes = Buffer.from(bytesOf(key))
  const { length } = bytes
  if (length < KEY_BYTES) return `has ${length} bytes; it must have at least ${KEY_BYTES}.`
  const text = printableTextOf(bytes)
  if (text !== undefined) return problemOfText(text)
  return areWeakKeys(bytes) ? GUESSABLE : undefined
}

/** Returns the text in UTF-8 that bytes are, apart from line ends; `undefined` for bytes that are no text. */
function printableTextOf(bytes: Uint8Array): string | undefined {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    return PRINTABLE.test(text.replace(LINE_ENDS, '')) ? text : undefined
  } catch {
    return undefined
  }
}

const GUESSABLE = 'is too easily guessed.'

function problemOfText(text: string): string | undefined {
  const digits = text.replace(LINE_ENDS, '')
  const isHex = HEX.test(digits) && digits.length >= 2 * KEY_BYTES
  const bytes = Buffer.from(digits, isHex ? 'hex' : 'base64')
  if (!(isHex || BASE64.test(digits)) || bytes.length < KEY_BYTES) {
    return `is no key of ${KEY_BYTES} bytes or more in Base64, Base64url or hexadecimal, but a passphrase, or too short.`
  }
  if (isWeakKey(digits.replace(/=+$/, ''), isHex) || areWeakKeys(bytes)) return GUESSABLE
  // A passphrase in Base64 or in hexadecimal is a passphrase; the text of a key may be encoded twice.
  const encoded = printableTextOf(bytes)
  return encoded !== undefined && problemOfText(encoded) !== undefined ? GUESSABLE : undefined
}

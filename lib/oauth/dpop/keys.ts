import { generateKeyPair, type KeyObject, webcrypto } from 'node:crypto'
import { promisify, types } from 'node:util'
import { type CryptoKey, calculateJwkThumbprint, importJWK, type JWK } from 'jose'
import { ConfigurationError } from '../../errors/token-error.js'
import { isJsonObject, ownProperties, ownValue } from '../../options/own-properties.js'
import { type DpopKey, dpopKeyIn, publicPartsOf } from '../../tokens/dpop-key.js'
import type { DpopOptions } from './dpop-options.js'

/** A key that an app's login library has used: a private key, or a pair with one. */
export type GivenDpopKey =
  | webcrypto.CryptoKeyPair
  | webcrypto.CryptoKey
  | KeyObject
  | { readonly privateKey: KeyObject }
  | JWK

/** A key that is ready to sign. */
export interface SigningDpopKey {
  readonly key: CryptoKey
  readonly alg: string
  /** The public key, as each proof shows it. */
  readonly jwk: Readonly<Record<string, string>>
}

const generate = promisify(generateKeyPair)
const RSA_BITS = 2048

/** Makes a private key. */
export async function newDpopKey(alg: NonNullable<DpopOptions['alg']>): Promise<DpopKey> {
  const { privateKey } = await generatedPair(alg)
  return dpopKeyIn({ ...privateKey.export({ format: 'jwk' }), alg })!
}

function generatedPair(alg: NonNullable<DpopOptions['alg']>): Promise<{ readonly privateKey: KeyObject }> {
  if (alg === 'ES256') return generate('ec', { namedCurve: 'P-256' })
  if (alg === 'EdDSA') return generate('ed25519')
  return generate('rsa', { modulusLength: RSA_BITS })
}

/** The keys in use by their JWK, so that a key is imported once. A key leaves the memory together with its token sets. */
const signing = new WeakMap<DpopKey, Promise<SigningDpopKey>>()

/** Imports a key for signing. */
export function signingDpopKey(key: DpopKey): Promise<SigningDpopKey> {
  const known = signing.get(key)
  if (known) return known
  const imported = importedKey(key)
  signing.set(key, imported)
  return imported
}

/** Returns the pair of a key, for a library that makes the proofs itself. */
export async function dpopKeyPair(key: DpopKey): Promise<{ privateKey: CryptoKey; publicKey: CryptoKey }> {
  const { key: privateKey, alg, jwk } = await signingDpopKey(key)
  return { privateKey, publicKey: (await importJWK(jwk as JWK, alg, { extractable: true })) as CryptoKey }
}

async function importedKey(key: DpopKey): Promise<SigningDpopKey> {
  const imported = await importJWK({ ...key } as JWK, key.alg).catch(() => {
    // The cause may quote the key.
    throw new ConfigurationError('The key of this grant cannot be imported. Log the user out, and in again.')
  })
  return { key: imported as CryptoKey, alg: key.alg, jwk: publicPartsOf(key) }
}

/** Returns the thumbprint of the public key (RFC 7638): the `dpop_jkt` of an authorization request, the `jkt` of a token. */
export function thumbprintOf(key: DpopKey): Promise<string> {
  return calculateJwkThumbprint(publicPartsOf(key) as JWK)
}

const CURVES: Readonly<Record<string, string>> = {
  'P-256': 'ES256',
  'P-384': 'ES384',
  'P-521': 'ES512',
  Ed25519: 'EdDSA',
}
const ALGORITHMS = /^(?:ES|PS|RS)(?:256|384|512)$/

/**
 * Reads the key that `set(tokens, { dpopKey })` is given, as it will be stored.
 *
 * @throws `ConfigurationError` that does not show the key
 */
export async function givenDpopKey(given: GivenDpopKey): Promise<DpopKey> {
  const jwk = await exported(isPair(given) ? given.privateKey : given)
  const alg = algorithmOf(jwk)
  if (alg === undefined) throw wrongKey('is of a kind that no proof can be signed with')
  const key = dpopKeyIn({ ...jwk, alg })
  if (!key) throw wrongKey('has no private part')
  if (key.kty === 'RSA' && Buffer.from(key.n!, 'base64url').length * 8 < RSA_BITS) {
    throw wrongKey(`has fewer than ${RSA_BITS} bits`)
  }
  await signingDpopKey(key).catch(() => {
    throw wrongKey('cannot be imported')
  })
  return key
}

function isPair(given: unknown): given is { readonly privateKey: webcrypto.CryptoKey | KeyObject } {
  if (types.isCryptoKey(given) || types.isKeyObject(given) || !isJsonObject(given)) return false
  return Object.hasOwn(given, 'privateKey')
}

async function exported(given: unknown): Promise<object> {
  if (types.isCryptoKey(given)) {
    const key = given as webcrypto.CryptoKey
    if (key.type !== 'private') throw wrongKey('is not a private key')
    if (!key.extractable) throw notExtractable()
    return webcrypto.subtle.exportKey('jwk', key)
  }
  if (types.isKeyObject(given)) {
    if ((given as KeyObject).type !== 'private') throw wrongKey('is not a private key')
    return (given as KeyObject).export({ format: 'jwk' })
  }
  if (isJsonObject(given)) return ownProperties(given)
  throw wrongKey('is no key')
}

function algorithmOf(jwk: object): string | undefined {
  const [crv, alg, kty] = ['crv', 'alg', 'kty'].map((name) => ownValue(jwk, name))
  if (typeof crv === 'string') return Object.hasOwn(CURVES, crv) ? CURVES[crv] : undefined
  if (kty !== 'RSA') return undefined
  return typeof alg === 'string' && ALGORITHMS.test(alg) ? alg : 'PS256'
}

function wrongKey(flaw: string): ConfigurationError {
  return new ConfigurationError(
    `The \`dpopKey\` of set() ${flaw}. Give the key pair that the tokens were requested with: a CryptoKeyPair, a private ` +
      'CryptoKey or KeyObject, or a private JWK.',
  )
}

function notExtractable(): ConfigurationError {
  return new ConfigurationError(
    'The `dpopKey` of set() cannot be stored, since it is not extractable. Make it extractable, e.g. with openid-client: ' +
      "randomDPoPKeyPair('ES256', { extractable: true }).",
  )
}

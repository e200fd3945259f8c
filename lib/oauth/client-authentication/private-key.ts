import { createPrivateKey, type JsonWebKey, type KeyObject, type webcrypto } from 'node:crypto'
import { types } from 'node:util'
import type { JWK } from 'jose'
import { ConfigurationError } from '../../errors/token-error.js'
import { ownProperties, ownValue } from '../../options/own-properties.js'

type CryptoKey = webcrypto.CryptoKey

/** A private key and the algorithm that it signs with. */
export interface SigningKey {
  readonly key: CryptoKey | KeyObject
  readonly alg: string
  readonly kid?: string
}

const RSA = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512']
const ECDSA: Readonly<Record<string, string>> = {
  'P-256': 'ES256',
  prime256v1: 'ES256',
  'P-384': 'ES384',
  secp384r1: 'ES384',
  'P-521': 'ES512',
  secp521r1: 'ES512',
}
const CURE =
  'Give a private key as a CryptoKey, a KeyObject of node:crypto, a JWK or a PKCS#8 PEM string ("-----BEGIN PRIVATE KEY-----").'

/**
 * Checks a private key, and finds the algorithm that fits it.
 *
 * @throws `ConfigurationError` that does not show the key
 */
export function signingKey(input: unknown, alg: string | undefined, kid: string | undefined): SigningKey {
  const jwk = isJwk(input) ? ownProperties(input) : undefined
  const key = keyOf(input)
  const fitting = types.isCryptoKey(key) ? algorithmsOfCryptoKey(key) : algorithmsOfKeyObject(key)
  const chosen = alg ?? jwk?.alg ?? fitting[0]
  if (chosen === undefined) fail('cannot sign with a key of this kind. Use an RSA, EC or Ed25519 key.')
  if (!fitting.includes(chosen)) {
    fail(`cannot sign with alg "${chosen}" and this key. It fits ${fitting.join(', ') || 'no algorithm'}.`)
  }
  const id = kid ?? jwk?.kid
  return ownProperties({ key, alg: chosen, ...(id !== undefined && { kid: id }) })
}

function keyOf(input: unknown): CryptoKey | KeyObject {
  if (types.isCryptoKey(input)) return signingCryptoKey(input)
  if (types.isKeyObject(input)) {
    if (input.type !== 'private') fail(`got a ${input.type} key. ${CURE}`)
    return input
  }
  if (typeof input === 'string') return imported({ key: input, format: 'pem' })
  if (isJwk(input)) {
    if (ownValue(input, 'd') === undefined) fail(`got a JWK without the private part "d". ${CURE}`)
    return imported({ key: input as JsonWebKey, format: 'jwk' })
  }
  return fail(`got no key. ${CURE}`)
}

function signingCryptoKey(key: CryptoKey): CryptoKey {
  if (key.type !== 'private') fail(`got a ${key.type} CryptoKey. ${CURE}`)
  if (!key.usages.includes('sign'))
    fail("got a CryptoKey that may not sign. Import it with the usage 'sign'.")
  return key
}

function imported(input: Parameters<typeof createPrivateKey>[0]): KeyObject {
  try {
    return createPrivateKey(input)
  } catch {
    // The error of node:crypto may quote the key.
    return fail(
      `could not read the key. ${CURE} For an encrypted key: createPrivateKey({ key, passphrase }) of node:crypto.`,
    )
  }
}

function isJwk(input: unknown): input is JWK {
  return typeof input === 'object' && input !== null && typeof ownValue(input, 'kty') === 'string'
}

function algorithmsOfKeyObject({ asymmetricKeyType, asymmetricKeyDetails }: KeyObject): readonly string[] {
  if (asymmetricKeyType === 'rsa' || asymmetricKeyType === 'rsa-pss') {
    checkRsaBits(asymmetricKeyDetails?.modulusLength)
    return asymmetricKeyType === 'rsa' ? RSA : RSA.slice(3)
  }
  if (asymmetricKeyType === 'ed25519') return ['EdDSA', 'Ed25519']
  return oneOrNone(ECDSA[asymmetricKeyDetails?.namedCurve ?? ''])
}

function algorithmsOfCryptoKey({ algorithm }: CryptoKey): readonly string[] {
  const details = algorithm as {
    name: string
    hash?: { name: string }
    namedCurve?: string
    modulusLength?: number
  }
  const bits = details.hash?.name.replace('SHA-', '') ?? ''
  if (details.name === 'Ed25519') return ['EdDSA', 'Ed25519']
  if (details.name === 'ECDSA') return oneOrNone(ECDSA[details.namedCurve ?? ''])
  if (details.name !== 'RSASSA-PKCS1-v1_5' && details.name !== 'RSA-PSS') return []
  checkRsaBits(details.modulusLength)
  return RSA.filter((alg) => alg === `${details.name === 'RSA-PSS' ? 'PS' : 'RS'}${bits}`)
}

function oneOrNone(alg: string | undefined): readonly string[] {
  return alg === undefined ? [] : [alg]
}

function checkRsaBits(bits: number | undefined): void {
  if (bits !== undefined && bits < 2048)
    fail(
      `got an RSA key of ${bits} bits. RFC 7518 §3.3 requires at least 2048. Make a larger key and register it.`,
    )
}

function fail(why: string): never {
  throw new ConfigurationError(`privateKeyJwt: ${why}`)
}

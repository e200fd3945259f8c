import { decodeProtectedHeader } from 'jose'
import { ownProperties } from '../../options/own-properties.js'

/** The lengths of the initialization vector and of the authentication tag of each encryption, in bytes (RFC 7518 §5). */
const ENCRYPTIONS: ReadonlyMap<unknown, readonly [iv: number, tag: number]> = new Map([
  ['A128GCM', [12, 16]],
  ['A192GCM', [12, 16]],
  ['A256GCM', [12, 16]],
  ['A128CBC-HS256', [16, 16]],
  ['A192CBC-HS384', [16, 24]],
  ['A256CBC-HS512', [16, 32]],
])
/** Algorithms without an encrypted key in the JWE (RFC 7518 §4.5, §4.6). */
const WITHOUT_KEY: readonly unknown[] = ['dir', 'ECDH-ES']
const BASE64URL = /^[\w-]*$/

/**
 * Whether a text looks like a JWE in compact form (RFC 7516 §3.1): the header names the algorithms for the key (`alg`) and for the
 * content (`enc`), and the lengths of the other four parts fit these algorithms. More cannot be checked without the key.
 */
export function isEncrypted(text: string): boolean {
  const [header, key, ...rest] = text.split('.')
  if (header === undefined || key === undefined || rest.length !== 3) return false
  if (![header, key, ...rest].every((part) => BASE64URL.test(part))) return false
  const { alg, enc } = headerOf(text)
  const lengths = ENCRYPTIONS.get(enc)
  if (!lengths || typeof alg !== 'string' || alg === '') return false
  if (WITHOUT_KEY.includes(alg) !== (key === '')) return false
  const [iv, content, tag] = rest.map((part) => Buffer.from(part, 'base64url').length)
  return iv === lengths[0] && tag === lengths[1] && content !== 0
}

function headerOf(text: string): { readonly alg?: unknown; readonly enc?: unknown } {
  try {
    return ownProperties(decodeProtectedHeader(text))
  } catch {
    return ownProperties({})
  }
}

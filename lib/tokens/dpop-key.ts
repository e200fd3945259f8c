import { isJsonObject, ownProperties } from '../options/own-properties.js'

/** The private key of a grant that proves possession of its tokens (RFC 9449): a JWK with the algorithm that it signs with. */
export interface DpopKey {
  readonly kty: string
  readonly alg: string
  readonly d: string
  readonly [member: string]: string
}

/** The members of a JWK by its type (RFC 7518 §6, RFC 8037 §2): those that are public, and those that are secret. */
const MEMBERS: Readonly<
  Record<string, { readonly open: readonly string[]; readonly secret: readonly string[] }>
> = {
  EC: { open: ['crv', 'x', 'y'], secret: ['d'] },
  OKP: { open: ['crv', 'x'], secret: ['d'] },
  RSA: { open: ['n', 'e'], secret: ['d', 'p', 'q', 'dp', 'dq', 'qi'] },
}

/** Reads a private key out of a JWK, without members that a proof does not need. Returns `undefined` for any other value. */
export function dpopKeyIn(value: unknown): DpopKey | undefined {
  if (!isJsonObject(value)) return undefined
  const jwk = ownProperties(value)
  const members = typeof jwk.kty === 'string' && Object.hasOwn(MEMBERS, jwk.kty) && MEMBERS[jwk.kty]
  if (!members) return undefined
  const names = ['kty', 'alg', ...members.open, ...members.secret]
  if (names.some((name) => typeof jwk[name] !== 'string' || jwk[name] === '')) return undefined
  return ownProperties(Object.fromEntries(names.map((name) => [name, jwk[name]]))) as unknown as DpopKey
}

/** Returns the members of a key that a proof shows. */
export function publicPartsOf(key: DpopKey): Record<string, string> {
  const names = ['kty', ...MEMBERS[key.kty]!.open]
  return Object.fromEntries(names.map((name) => [name, key[name]!]))
}

/** Returns the members of a key that no error and no log may show. */
export function secretPartsOf(key: DpopKey): string[] {
  return MEMBERS[key.kty]!.secret.map((name) => key[name]!)
}

import { createPublicKey, type KeyObject, randomUUID } from 'node:crypto'
import { type JWK, SignJWT } from 'jose'

/** Makes the proof of a token request with a private key of the curve P-256 (RFC 9449 §4). */
export function dpopProof(key: KeyObject, url: string, nonce?: string): Promise<string> {
  const jwk = createPublicKey(key).export({ format: 'jwk' }) as JWK
  return new SignJWT({ htm: 'POST', htu: url, ...(nonce !== undefined && { nonce }) })
    .setProtectedHeader({ typ: 'dpop+jwt', alg: 'ES256', jwk })
    .setJti(randomUUID())
    .setIssuedAt()
    .sign(key)
}

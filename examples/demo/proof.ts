import { createHash } from 'node:crypto'
import type { Request } from 'express'
import { calculateJwkThumbprint, EmbeddedJWK, type JWK, type JWTPayload, jwtVerify } from 'jose'

/** The proofs of the last minutes by their `jti`, since each may be used once. */
const used = new Set<string>()

/** Whether a request proves that its sender holds the key that a token is bound to (RFC 9449 §4.3, §7.1). */
export async function isProven(req: Request, token: string, { cnf }: JWTPayload): Promise<boolean> {
  const { jkt } = (cnf ?? {}) as { jkt?: string }
  try {
    const { payload, protectedHeader } = await jwtVerify(req.get('DPoP') ?? '', EmbeddedJWK, {
      typ: 'dpop+jwt',
      algorithms: ['ES256', 'EdDSA'],
      maxTokenAge: '1 minute',
      requiredClaims: ['jti'],
    })
    const { ath, htm, htu, jti = '' } = payload
    const isOfRequest = htm === req.method && htu === `${req.protocol}://${req.get('Host')}${req.path}`
    const isOfToken = ath === createHash('sha256').update(token).digest('base64url')
    const isOfKey = jkt === (await calculateJwkThumbprint(protectedHeader.jwk as JWK))
    if (!isOfRequest || !isOfToken || !isOfKey || used.has(jti)) return false
    used.add(jti)
    setTimeout(() => used.delete(jti), 120_000).unref()
    return true
  } catch {
    return false
  }
}

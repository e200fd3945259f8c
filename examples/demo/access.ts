import type { RequestHandler } from 'express'
import { createRemoteJWKSet, type JWTPayload, jwtVerify } from 'jose'
import { isProven } from './proof.js'

export interface AccessOptions {
  readonly issuer: string
  /** This API, as access tokens name it. */
  readonly audience: string
  /** Called for every call that has a token. */
  readonly onCall?: (accepted: boolean, accessToken: string) => void
}

/**
 * Lets requests pass that have an access token of this issuer for this API (RFC 9068), and the proof that a bound one needs
 * (RFC 9449), and keeps its claims.
 */
export function verified({ issuer, audience, onCall }: AccessOptions): RequestHandler {
  const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`))
  return async (req, res, next) => {
    const [, scheme = '', token] = /^(Bearer|DPoP) (.+)$/i.exec(req.headers.authorization ?? '') ?? []
    if (token === undefined) return void res.set('WWW-Authenticate', 'Bearer').sendStatus(401)
    const claims = await jwtVerify(token, keys, { issuer, audience, typ: 'at+jwt' })
      .then(({ payload }) => payload)
      // A token that is bound to a key is no bearer token.
      .then(async (claims) => {
        const isBound = scheme.toLowerCase() === 'dpop' || claims.cnf !== undefined
        return !isBound || (await isProven(req, token, claims)) ? claims : undefined
      })
      .catch(() => undefined)
    onCall?.(claims !== undefined, token)
    if (!claims) return void res.set('WWW-Authenticate', 'Bearer error="invalid_token"').sendStatus(401)
    res.locals.claims = claims
    next()
  }
}

/** Lets requests pass whose token has this scope. */
export function scope(needed: string): RequestHandler {
  return (_req, res, next) => {
    const { scope } = res.locals.claims as JWTPayload
    if (String(scope).split(' ').includes(needed)) return next()
    res.set('WWW-Authenticate', `Bearer error="insufficient_scope", scope="${needed}"`).sendStatus(403)
  }
}

import type { Request, Response } from 'express'
import type { JWTPayload } from 'jose'
import { fingerprint } from '../demo/timeline.js'

/** What an API shows of the token of a request: enough to distinguish tokens, but too little to use one. */
export interface ShownToken {
  readonly fingerprint: string
  readonly audience: string
  readonly scope: string
  /** Negative when it has expired since. */
  readonly expiresInMs: number
}

/** `null` if there was none. */
export function shownToken(req: Request, res: Response): ShownToken | null {
  const { authorization } = req.headers
  if (authorization === undefined) return null
  const { aud, scope, exp } = (res.locals.claims ?? {}) as JWTPayload
  return {
    fingerprint: fingerprint(authorization.slice('Bearer '.length)),
    audience: String(aud),
    scope: String(scope),
    expiresInMs: Number(exp) * 1000 - Date.now(),
  }
}

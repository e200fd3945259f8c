import type { RequestHandler } from 'express'
import { fromOwnPage } from './bff.js'
import { CALLS } from './steps.js'

/** The response to one of the calls. */
export interface BurstCall {
  readonly status: number
  /** The worker that has handled it, in the cluster. */
  readonly worker: string | null
}

/**
 * Sends 50 calls at the same moment, with the cookie of the browser. The browser itself would send six at a time, over
 * HTTP/1.1.
 */
export function burst(url: string): RequestHandler {
  return (req, res, next) =>
    fromOwnPage(req, res, async () => {
      const call = async (): Promise<BurstCall> => {
        const response = await fetch(url, { headers: { Cookie: req.get('Cookie') ?? '' } })
        await response.body?.cancel()
        return { status: response.status, worker: response.headers.get('X-Answered-By') }
      }
      await Promise.all(Array.from({ length: CALLS }, call)).then((calls) => res.json(calls), next)
    })
}

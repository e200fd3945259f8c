import type { RequestHandler } from 'express'
import { sendProblem } from './problem.js'

/**
 * Lets requests pass that the gateway's own page sent. A cookie is sent along with what other pages send too, those of a
 * neighbour host or port above all, which count as the same site. But no other origin's page may add a header of its own
 * unless we allow it (CORS), and browsers say themselves where a request comes from.
 */
export function fromOwnPage(url: string): RequestHandler {
  const { origin } = new URL(url)
  return (req, res, next) => {
    const site = req.get('Sec-Fetch-Site') ?? 'same-origin'
    const from = req.get('Origin') ?? origin
    if (req.get('X-CSRF') === '1' && site === 'same-origin' && from === origin) {
      res.set('Cache-Control', 'no-store')
      next()
    } else {
      const detail = 'Only the page of this site may ask, and with the header X-CSRF: 1.'
      sendProblem(res, { status: 403, title: 'Forbidden', detail })
    }
  }
}

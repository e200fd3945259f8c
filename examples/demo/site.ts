import { join } from 'node:path'
import express, { type Express, type RequestHandler } from 'express'
import { burst } from './burst.js'
import { page } from './page.js'
import type { SendTimeline } from './timeline-feed.js'

export interface SiteOptions {
  /** Where browsers reach the site. */
  readonly url: string
  readonly bff: RequestHandler
  /** The app without the library. */
  readonly without: RequestHandler
  readonly timeline: SendTimeline
}

/** The server for browsers: the page, and the two apps that its buttons call. */
export function site({ url, bff, without, timeline }: SiteOptions): Express {
  const site = express()
  site.get(['/page.js', '/timeline.js'], (req, res) =>
    res.sendFile(join(import.meta.dirname, 'page', req.path)),
  )
  site.use('/without', side(`${url}/without`, without))
  site.use(side(url, bff))
  return site

  function side(sideUrl: string, app: RequestHandler): Express {
    const side = express()
    side.get('/', page('index.html', { formAction: "'none'" }))
    side.post('/burst', burst(`${sideUrl}/api/orders`))
    side.use(app)
    side.get('/timeline', (req, res) => timeline(req.session.login, res))
    return side
  }
}

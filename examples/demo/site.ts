import { join } from 'node:path'
import express, { type Express, type RequestHandler } from 'express'
import { page } from './page.js'

/** The server for browsers: the page, its time line, and the BFF that the buttons call. */
export function site({ bff, timeline }: { bff: RequestHandler; timeline: RequestHandler }): Express {
  const app = express()
  app.get('/', page('index.html', { formAction: "'none'" }))
  app.get('/page.js', (_req, res) => res.sendFile(join(import.meta.dirname, 'page/page.js')))
  app.get('/timeline', timeline)
  app.use(bff)
  return app
}

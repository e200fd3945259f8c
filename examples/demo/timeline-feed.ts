import type { RequestHandler } from 'express'
import type { Row, Timeline } from './timeline.js'

/** Sends the time line to a page as server-sent events: first the past rows, then each new row. A row that changes is sent again. */
export function timelineFeed({ rows, follow }: Timeline): RequestHandler & { close(): void } {
  const closers = new Set<() => void>()

  const feed: RequestHandler = (_req, res) => {
    res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' })
    const send = (row: Row) => void res.write(`data: ${JSON.stringify(row)}\n\n`)
    res.write(': the time line\n\n')
    rows.forEach(send)
    const unfollow = follow(send)
    const close = () => void res.end()
    closers.add(close)
    res.on('close', () => {
      unfollow()
      closers.delete(close)
    })
  }

  return Object.assign(feed, {
    close() {
      for (const close of closers) close()
    },
  })
}

import type { Response } from 'express'
import type { Row, Timeline } from './timeline.js'

/** Sends the time line of one login to a page. */
export type SendTimeline = (login: string | undefined, res: Response) => void

/** Sends a time line to pages. */
export interface TimelineFeed {
  readonly send: SendTimeline
  close(): void
}

/** Sends the rows as server-sent events: first the past rows, then each new row. A row that changes is sent again. */
export function timelineFeed({ rows, follow }: Timeline): TimelineFeed {
  const closers = new Set<() => void>()

  return {
    send(login, res) {
      res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' })
      res.write(': the time line\n\n')
      const send = (row: Row) => {
        if (login !== undefined && row.login === login) res.write(`data: ${JSON.stringify(row)}\n\n`)
      }
      rows.forEach(send)
      const unfollow = follow(send)
      const close = () => void res.end()
      closers.add(close)
      res.on('close', () => {
        unfollow()
        closers.delete(close)
      })
    },
    close() {
      for (const close of closers) close()
    },
  }
}

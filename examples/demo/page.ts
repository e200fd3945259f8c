import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { RequestHandler } from 'express'

/** Answers with an HTML file below page/, under a Content-Security-Policy that allows what is in it and nothing more. */
export function page(file: string, { formAction }: { formAction: string }): RequestHandler {
  const html = readFileSync(join(import.meta.dirname, 'page', file), 'utf8')
  const style = /<style>(.*)<\/style>/s.exec(html)?.[1] ?? ''
  const policy = [
    "default-src 'none'",
    "script-src 'self'",
    `style-src 'sha256-${createHash('sha256').update(style).digest('base64')}'`,
    "connect-src 'self'",
    'img-src data:',
    `form-action ${formAction}`,
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ].join('; ')

  return (_req, res) => {
    res.set({
      'Content-Security-Policy': policy,
      'Referrer-Policy': 'no-referrer',
      'X-Content-Type-Options': 'nosniff',
      'Cache-Control': 'no-store',
    })
    res.type('html').send(html)
  }
}

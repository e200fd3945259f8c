import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { RequestHandler } from 'express'

/** An HTML file below page/ with its style sheet, and a Content-Security-Policy that allows only its own content. */
export function readPage(file: string, { formAction }: { formAction: string }) {
  const html = read(file).replace(/<!-- style: (\S+) -->/, (_, name) => `<style>${read(name)}</style>`)
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
  const headers = {
    'Content-Security-Policy': policy,
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
    'Cache-Control': 'no-store',
  }
  return { html, headers }
}

function read(file: string): string {
  return readFileSync(join(import.meta.dirname, 'page', file), 'utf8')
}

/** Responds with an HTML file below page/. */
export function page(file: string, options: { formAction: string }): RequestHandler {
  const { html, headers } = readPage(file, options)
  return (_req, res) => void res.set(headers).type('html').send(html)
}

import { join } from 'node:path'
import express, { type RequestHandler } from 'express'

const FOLDER = join(import.meta.dirname, 'page')
const HTML = join(FOLDER, 'index.html')

/** The single page and its files. They are the same for all users. */
export const page = {
  html: ((_req, res) => res.set('Cache-Control', 'no-cache').sendFile(HTML)) satisfies RequestHandler,
  assets: express.static(FOLDER, { index: false }),
}

/** Marks responses for one user, which no cache may keep. */
export const notStored: RequestHandler = (_req, res, next) => {
  res.set('Cache-Control', 'no-store')
  next()
}

const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  'img-src data:',
  "form-action 'none'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ')

/** Allows the page only scripts and requests of this site, and no framing. */
export function securityHeaders(url: string): RequestHandler {
  const headers = {
    'Content-Security-Policy': POLICY,
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
    ...(url.startsWith('https:') && { 'Strict-Transport-Security': 'max-age=31536000' }),
  }
  return (_req, res, next) => {
    res.set(headers)
    next()
  }
}

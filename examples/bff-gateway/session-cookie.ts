import type { CookieOptions } from 'express'

/** The session cookie's name and flags, as express-session takes them. */
export interface SessionCookie {
  readonly name: string
  readonly cookie: Readonly<CookieOptions>
}

/**
 * The session cookie (OAuth 2.0 for Browser-Based Applications, §6.1): no script reads it, no other host sets it.
 *
 * `Lax` rather than `Strict`: the browser comes to the callback from the authorization server, another site, and must
 * bring the login that it has begun; and who follows a link in a mail is still logged in. What `Lax` lets through are
 * GETs of pages, which change nothing. Everything else is refused by `refuseCrossOrigin()`.
 *
 * Over http, which only loopback is for, it is neither Secure nor `__Host-`. Chromium would take both there, but
 * express-session sends no Secure cookie without TLS, and Safari keeps none.
 */
export function sessionCookie(url: string): SessionCookie {
  const secure = url.startsWith('https:')
  return {
    name: secure ? '__Host-gateway' : 'gateway',
    cookie: { path: '/', httpOnly: true, secure, sameSite: 'lax' },
  }
}

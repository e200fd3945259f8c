import type { CookieOptions } from 'express'

/** The session cookie's name and flags, as express-session takes them. */
export interface SessionCookie {
  readonly name: string
  readonly cookie: Readonly<CookieOptions>
}

/**
 * The session cookie (OAuth 2.0 for Browser-Based Applications, §6.1): no script reads it, no other host sets it.
 *
 * `Lax` rather than `Strict`: the callback is reached from another site, the authorization server, and needs the cookie of
 * the login under way; and a user who follows a link in a mail is still logged in. `Lax` sends the cookie only with GETs
 * of pages, which change nothing. `refuseCrossOrigin()` refuses all other requests from other sites.
 *
 * Over http, for the loopback interface only, it is neither Secure nor `__Host-`. Chromium would accept both there, but
 * express-session sends no Secure cookie without TLS, and Safari keeps none.
 */
export function sessionCookie(url: string): SessionCookie {
  const secure = url.startsWith('https:')
  return {
    name: secure ? '__Host-gateway' : 'gateway',
    cookie: { path: '/', httpOnly: true, secure, sameSite: 'lax' },
  }
}

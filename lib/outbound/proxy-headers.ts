import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http'

/** Headers of one connection, which no proxy passes on (RFC 9110 §7.6.1). */
const HOP_BY_HOP: readonly string[] = [
  'connection',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]

/** Whether a header, in lower case, is about one connection only, whatever its `Connection` says. */
export function isHopByHop(name: string): boolean {
  return HOP_BY_HOP.includes(name) || name.startsWith('proxy-')
}

/**
 * What the browser says to this site alone: who it is, where its page is from, the usual CSRF headers. `Expect` has been
 * answered here, and the length is the body's.
 */
const OF_THIS_SITE: readonly string[] = [
  ...['authorization', 'cookie', 'cookie2', 'host', 'origin', 'expect', 'content-length', 'http2-settings'],
  ...['csrf-token', 'x-csrf', 'x-csrf-token', 'x-xsrf-token'],
  ...['forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-port', 'x-forwarded-proto'],
]

/**
 * What an API must not say for this site: its cookies, and what it lets other sites do, which is harmless for bearer
 * tokens and not for the session's cookie.
 */
const NOT_FOR_THE_BROWSER: readonly string[] = [
  ...['set-cookie', 'set-cookie2', 'clear-site-data', 'strict-transport-security', 'authentication-info'],
  ...['access-control-allow-origin', 'access-control-allow-credentials', 'access-control-allow-headers'],
  ...['access-control-allow-methods', 'access-control-expose-headers', 'access-control-max-age'],
]

/** The headers of a request that the API gets, before ours are added. */
export function headersForApi(
  headers: IncomingHttpHeaders,
  withhold: readonly string[],
): IncomingHttpHeaders {
  const kept = Object.entries(endToEnd(headers)).filter(
    ([name]) => !OF_THIS_SITE.includes(name) && !withhold.includes(name) && !name.startsWith(':'),
  )
  return Object.fromEntries(kept)
}

/**
 * The headers of an answer that the browser gets. A 401's challenge is about a token that the browser does not have, and
 * might make it ask for a password.
 *
 * @param token the one that was sent, which no header may show
 */
export function headersForBrowser(
  headers: IncomingHttpHeaders,
  status: number,
  token: string | undefined,
): OutgoingHttpHeaders {
  const kept = Object.entries(endToEnd(headers)).filter(
    ([name, value]) =>
      !NOT_FOR_THE_BROWSER.includes(name) &&
      !(name === 'www-authenticate' && status === 401) &&
      !shows(String(value), token),
  )
  const shown: OutgoingHttpHeaders = Object.fromEntries(kept)
  if (token !== undefined) shown['cache-control'] = cacheControl(headers['cache-control'])
  return shown
}

/** A token of a few letters, as in tests, would be found in anything. */
function shows(value: string, token: string | undefined): boolean {
  return token !== undefined && token.length >= 8 && value.includes(token)
}

/** What lets a shared cache keep the answer to a request with a token (RFC 9111 §3.5), or forbids it anyway. */
const SAYS_WHO_MAY_KEEP_IT = /(?:^|[\s,])(?:public|private|no-store|must-revalidate|s-maxage)(?:$|[\s,=])/i

/** A cache in front of this site sees no Authorization, which would have kept it from keeping a user's answer. */
function cacheControl(value: string | undefined): string {
  if (value === undefined || value.trim() === '') return 'private'
  return SAYS_WHO_MAY_KEEP_IT.test(value) ? value : `${value}, private`
}

function endToEnd(headers: IncomingHttpHeaders): IncomingHttpHeaders {
  const named = String(headers.connection ?? '')
    .toLowerCase()
    .split(',')
    .map((name) => name.trim())
  const kept = Object.entries(headers).filter(
    ([name, value]) => value !== undefined && !isHopByHop(name) && !named.includes(name),
  )
  return Object.fromEntries(kept)
}

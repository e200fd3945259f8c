import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http'
import { redact } from '../../redact.js'

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
  // Some frameworks take these for the path.
  ...['x-original-url', 'x-rewrite-url'],
]

/**
 * What an API must not say for this site: its cookies, where else it is to be found, who is told of its failures, what the
 * server in front of it is to send, and what it lets other sites do, which is harmless for bearer tokens and not for the
 * session's cookie.
 */
const NOT_FOR_THE_BROWSER: readonly string[] = [
  ...['set-cookie', 'set-cookie2', 'clear-site-data', 'strict-transport-security', 'authentication-info'],
  ...['alt-svc', 'nel', 'report-to', 'x-accel-redirect', 'x-sendfile'],
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
      !(token !== undefined && FOR_OTHER_CACHES.test(name)) &&
      !shows(String(value), token),
  )
  const shown: OutgoingHttpHeaders = Object.fromEntries(kept)
  return { ...shown, ...forCaches(shown, token !== undefined) }
}

/** A token of a few letters, as in tests, would be found in anything. */
function shows(value: string, token: string | undefined): boolean {
  if (token === undefined || token.length < 8 || value.length < token.length) return false
  return redact(value, [token]) !== value
}

/** What is for the caches in front of the API, and goes before `Cache-Control` there (RFC 9213). */
const FOR_OTHER_CACHES = /cdn-cache-control$|^surrogate-control$|^x-accel-expires$/
/** What lets every cache keep the answer. */
const FOR_EVERYBODY = /^(?:public|s-maxage)(?:=|$)/i
/** What lets a shared cache keep the answer to a request with a token (RFC 9111 §3.5), or forbids it anyway. */
const SAYS_WHO_MAY_KEEP_IT = /^(?:public|private|no-store|must-revalidate|s-maxage)(?:=|$)/i
const FORBIDS_TO_SHARE_IT = /^(?:private|no-store)(?:=|$)/i

/**
 * What the caches of this site are told. They see a cookie where those of the API see an Authorization, which keeps them from
 * keeping a user's answer.
 */
function forCaches(headers: OutgoingHttpHeaders, isOfUser: boolean): OutgoingHttpHeaders {
  const said = listed(headers['cache-control'])
  const vary = listed(headers.vary)
  const depends = (name: string) => vary.some((each) => each.toLowerCase() === name)
  const isByToken = depends('authorization')
  const isForEverybody = !isByToken && said.some((each) => FOR_EVERYBODY.test(each))
  const isByCookie = (isByToken || isOfUser) && !isForEverybody && !depends('cookie') && !depends('*')
  return {
    ...(isByCookie && { vary: [...vary, 'Cookie'].join(', ') }),
    ...(isOfUser && { 'cache-control': cacheControl(said, isByToken).join(', ') }),
  }
}

function cacheControl(said: readonly string[], isByToken: boolean): readonly string[] {
  const kept = isByToken ? said.filter((each) => !FOR_EVERYBODY.test(each)) : said
  const decides = isByToken ? FORBIDS_TO_SHARE_IT : SAYS_WHO_MAY_KEEP_IT
  return kept.some((each) => decides.test(each)) ? kept : [...kept, 'private']
}

function listed(value: unknown): string[] {
  const parts = String(value ?? '').split(',')
  return parts.map((part) => part.trim()).filter((part) => part !== '')
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

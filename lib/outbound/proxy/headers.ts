import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http'
import { isForApi, isForBrowser, normalForm } from './header-names.js'
import { tokenSearch } from './token-search.js'

/**
 * The headers of a request that the API gets, before ours are added. Of two spellings of a name the API gets the one
 * with `-`: it may take both for the same.
 *
 * @param withhold further names, in their normal form
 */
export function headersForApi(
  headers: IncomingHttpHeaders,
  withhold: readonly string[],
): IncomingHttpHeaders {
  const named = namedBy(headers.connection)
  const kept: IncomingHttpHeaders = {}
  for (const [name, value] of Object.entries(headers)) {
    const normal = normalForm(name)
    const isKept =
      value !== undefined &&
      isForApi(name) &&
      !named.includes(normal) &&
      !withhold.includes(normal) &&
      !name.startsWith(':') &&
      (normal === name || headers[normal] === undefined)
    if (isKept) kept[name] = value
  }
  return kept
}

/**
 * The headers of a response that the browser gets. A 401's challenge is about a token that the browser does not have, and
 * might make it ask for a password.
 *
 * @param token the one that was sent, which no header may show
 */
export function headersForBrowser(
  headers: IncomingHttpHeaders,
  status: number,
  token: string | undefined,
): OutgoingHttpHeaders {
  const named = namedBy(headers.connection)
  const showsToken = tokenSearch(token)
  const shown: OutgoingHttpHeaders = {}
  for (const [name, value] of Object.entries(headers)) {
    const normal = normalForm(name)
    const isShown =
      value !== undefined &&
      (isForBrowser(name) || asksNotToBuffer(normal, value)) &&
      !(normal === 'www-authenticate' && status === 401) &&
      !named.includes(normal) &&
      !showsToken(name) &&
      !showsToken(String(value))
    if (isShown) shown[name] = value
  }
  return { ...shown, ...forCaches(shown, token !== undefined) }
}

/** Server-sent events arrive one by one behind an nginx in front of this site as well. */
function asksNotToBuffer(name: string, value: unknown): boolean {
  return name === 'x-accel-buffering' && value === 'no'
}

/** The names in a `Connection` header: those are about one connection, too. */
function namedBy(connection: string | undefined): readonly string[] {
  return connection === undefined ? [] : connection.split(',').map((name) => normalForm(name.trim()))
}

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

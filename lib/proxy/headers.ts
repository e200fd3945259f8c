import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http'
import { isForApi, isForBrowser, normalForm, remembered } from './header-names.js'
import { tokenSearch } from './token-search.js'

/** Passes on the headers of a request that the API gets. The headers of this proxy are added later. */
export type HeadersForApi = (
  headers: IncomingHttpHeaders,
  put: (name: string, value: string | string[]) => void,
) => void

/**
 * Makes the function that passes headers on. If a request has two spellings of a name, the API gets only the one with `-`: it may
 * read both as one header.
 *
 * @param withhold further names, in their normal form
 */
export function headersForApi(withhold: readonly string[]): HeadersForApi {
  const isPassed = remembered(
    (name) => isForApi(name) && !withhold.includes(normalForm(name)) && !name.startsWith(':'),
  )
  return (headers, put) => {
    const named = namedBy(headers.connection)
    for (const name of Object.keys(headers)) {
      const value = headers[name]
      if (value === undefined || !isPassed(name)) continue
      const normal = normalForm(name)
      if (!named.includes(normal) && (normal === name || headers[normal] === undefined)) put(name, value)
    }
  }
}

/**
 * Returns the headers of a response that the browser gets. A 401's challenge is about a token that the browser does not have, and
 * might make it ask for a password.
 *
 * @param token the token that was sent, which no header may show
 */
export function headersForBrowser(
  headers: IncomingHttpHeaders,
  status: number,
  token: string | undefined,
): OutgoingHttpHeaders {
  const named = namedBy(headers.connection)
  const showsToken = tokenSearch(token)
  const shown: OutgoingHttpHeaders = {}
  for (const name of Object.keys(headers)) {
    const value = headers[name]
    if (value === undefined) continue
    const normal = normalForm(name)
    const isShown =
      (isForBrowser(name) || asksNotToBuffer(normal, value)) &&
      !(normal === 'www-authenticate' && status === 401) &&
      !named.includes(normal) &&
      !showsToken(name) &&
      !showsToken(String(value))
    if (isShown) shown[name] = value
  }
  instructCaches(shown, token !== undefined)
  return shown
}

/**
 * Whether a message has two lengths, so that the next server may find another end of it, or a transfer coding other than chunked,
 * which this proxy does not decode (RFC 9112 §6.1 and §6.3). Node's parser lets the latter through, and a lenient one both.
 */
export function isMisframed({
  'transfer-encoding': coding,
  'content-length': length,
}: IncomingHttpHeaders): boolean {
  return coding !== undefined && (length !== undefined || coding.trim().toLowerCase() !== 'chunked')
}

/** Whether a header makes server-sent events arrive one by one behind an nginx in front of this site as well. */
function asksNotToBuffer(name: string, value: unknown): boolean {
  return name === 'x-accel-buffering' && value === 'no'
}

const NO_NAMES: readonly string[] = []

/** Returns the names in a `Connection` header: those are about one connection, too. */
function namedBy(connection: string | undefined): readonly string[] {
  if (connection === undefined || connection === 'keep-alive' || connection === 'close') return NO_NAMES
  return connection.split(',').map((name) => normalForm(name.trim()))
}

/** Matches a directive that lets every cache keep a response. */
const PUBLIC = /^(?:public|s-maxage)(?:=|$)/i
/**
 * Matches a directive that lets a shared cache keep the response to a request with a token (RFC 9111 §3.5), or that forbids it. A
 * `private` that names fields forbids those alone (§5.2.2.7).
 */
const DECIDES_ON_SHARING = /^(?:private$|(?:public|no-store|must-revalidate|s-maxage)(?:=|$))/i
const FORBIDS_SHARING = /^(?:private$|no-store(?:=|$))/i

/**
 * Instructs the caches in front of this site. They see a cookie where those in front of the API see an Authorization header,
 * which keeps them from storing a user's response.
 */
function instructCaches(headers: OutgoingHttpHeaders, isOfUser: boolean): void {
  const vary = listed(headers.vary)
  const depends = (name: string) => vary.some((each) => each.toLowerCase() === name)
  const isByToken = depends('authorization')
  if (!isOfUser && !isByToken) return
  const cacheControl = listed(headers['cache-control'])
  const isPublic = !isByToken && cacheControl.some((each) => PUBLIC.test(each))
  if (!isPublic && !depends('cookie') && !depends('*')) headers.vary = [...vary, 'Cookie'].join(', ')
  if (isOfUser) headers['cache-control'] = restricted(cacheControl, isByToken).join(', ')
}

function restricted(cacheControl: readonly string[], isByToken: boolean): readonly string[] {
  const kept = isByToken ? cacheControl.filter((each) => !PUBLIC.test(each)) : cacheControl
  const decides = isByToken ? FORBIDS_SHARING : DECIDES_ON_SHARING
  return kept.some((each) => decides.test(each)) ? kept : [...kept, 'private']
}

/** A member of a list (RFC 9110 §5.6.1). A comma in a quoted string separates nothing. */
const MEMBER = /(?:"(?:[^"\\]|\\.)*"?|[^,"])+/g

function listed(value: unknown): string[] {
  if (value === undefined) return []
  const parts = String(value).match(MEMBER) ?? []
  return parts.map((part) => part.trim()).filter((part) => part !== '')
}

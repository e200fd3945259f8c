import type { PathRewrite } from './options.js'

/** Parent segments, as servers of all kinds read them: escaped, behind a backslash, with parameters. */
const LEADS_UP = /(?:^|[/\\]|%2f|%5c)(?:\.|%2e){2}(?:$|[/\\;]|%2f|%5c|%00)/i
/** Whatever cannot be in the target of a request, or ends it. */
const UNSENDABLE = /[^\x21-\x7e]/

/** What of a request says which path it is for. */
export interface Addressed {
  readonly url?: string | undefined
  /** The whole path, if a router has taken off that of the mount. */
  readonly originalUrl?: string | undefined
}

/**
 * The path and the query that a request has at the API, or nothing if it would lead out of the target's path, where the
 * token of this route has no business.
 */
export async function pathAtApi(
  target: URL,
  rewrite: PathRewrite | undefined,
  request: Addressed,
): Promise<string | undefined> {
  const asked = pathOf(request.url)
  if (asked === undefined) return undefined
  const [path = '', query] = halves(beginning(await rewritten(asked, rewrite, request)))
  if (LEADS_UP.test(path) || UNSENDABLE.test(path + (query ?? ''))) return undefined

  const base = target.pathname.replace(/\/$/, '')
  const isMountItself =
    rewrite === undefined && path === '/' && base !== '' && !endsInSlash(request.originalUrl)
  return base + (isMountItself ? '' : path) + (query === undefined ? '' : `?${query}`)
}

/** The path and query of a request's target, be it absolute (RFC 9112 §3.2.2). */
function pathOf(url = ''): string | undefined {
  if (url.startsWith('/')) return url
  if (!/^https?:/i.test(url) || !URL.canParse(url)) return undefined
  const { pathname, search } = new URL(url)
  return pathname + search
}

async function rewritten(path: string, rewrite: PathRewrite | undefined, request: object): Promise<string> {
  if (rewrite === undefined) return path
  if (typeof rewrite === 'function') return String(await rewrite(path, request))
  const rule = Object.entries(rewrite).find(([pattern]) => new RegExp(pattern).test(path))
  return rule ? path.replace(new RegExp(rule[0]), rule[1]) : path
}

function beginning(path: string): string {
  return path.startsWith('/') ? path : `/${path}`
}

function endsInSlash(url: string | undefined): boolean {
  return halves(url ?? '/')[0]?.endsWith('/') ?? true
}

function halves(url: string): [path: string, query: string | undefined] {
  const withoutFragment = url.split('#', 1)[0] ?? ''
  const at = withoutFragment.indexOf('?')
  return at === -1
    ? [withoutFragment, undefined]
    : [withoutFragment.slice(0, at), withoutFragment.slice(at + 1)]
}

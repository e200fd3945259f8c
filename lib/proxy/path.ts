import { ConfigurationError } from '../errors/token-error.js'
import type { PathRewrite } from './options.js'

/** A segment that leads up or stays, as servers of all kinds read one: escaped, behind a backslash, with parameters. */
const DOT_SEGMENT = /(?:^|[/\\]|%2f|%5c)(?:\.|%2e){1,2}(?:$|[/\\;]|%2f|%5c|%3b|%00)/i
/** Matches encoded characters that some servers read as a slash, and other servers do not. */
const ENCODED_SEPARATOR = /%2f|%5c/i
/**
 * Letters, digits, `-` and `_`, which need no encoding (RFC 3986 §2.3), and NUL. Routers compare paths as they are written, so a
 * guard at `/admin` does not see `/%61dmin`, which the API decodes. `.` and `~` are not among them: some clients encode them.
 */
const ENCODED_WITHOUT_NEED = /%(?:00|2d|3\d|4[1-9a-f]|5[\daf]|6[1-9a-f]|7[\da])/i
/** Matches a letter that no request target has, or that ends it. Node's parser and others accept some of them. */
const NOT_OF_A_TARGET = /[^\x21-\x7e]|#/

/** The properties of a request that say which path it is for. */
export interface Addressed {
  readonly url?: string | undefined
  /** The whole path, if a router has removed that of the mount. */
  readonly originalUrl?: string | undefined
  /** The path of the mount, with Express. */
  readonly baseUrl?: string | undefined
}

/** The rules for the path at the API. */
export interface PathRules {
  readonly target: URL
  readonly rewrite: Rewrite | undefined
  readonly encodedSeparators: 'refuse' | 'pass'
}

/** Resolves with the path and query in place of the given ones, or with `undefined` if they stay. */
export type Rewrite = (path: string, request: object) => unknown

/** Returns the option `pathRewrite` as a function. */
export function rewriteOf(rewrite: PathRewrite | undefined): Rewrite | undefined {
  if (rewrite === undefined || typeof rewrite === 'function') return rewrite
  const rules = Object.entries(rewrite).map(([pattern, value]) => [new RegExp(pattern), value] as const)
  return (path) => {
    const rule = rules.find(([pattern]) => pattern.test(path))
    return rule && path.replace(...rule)
  }
}

/**
 * Returns the path and the query that a request has at the API: byte for byte those that the framework's router has left of them,
 * since its guards have decided on these. Returns `undefined` if servers read them differently, or if they lead out of the
 * target's path, where the token of this route must not go. The result of a rewrite is checked in the same way.
 *
 * @throws `ConfigurationError` when the rewrite returns something other than a path
 */
export function pathAtApi(
  rules: PathRules,
  request: Addressed,
  originalUrl = request.originalUrl,
): string | undefined | Promise<string | undefined> {
  const { target, rewrite } = rules
  const { url = '', baseUrl = '' } = request
  // A target with a scheme or a host (RFC 9112 §3.2) has been read by the router's own parser, which need not agree with this one.
  if (!url.startsWith('/') || !isPassed(url, rules)) return undefined
  if (originalUrl !== undefined && hasLostSlash(originalUrl, baseUrl + url)) return undefined
  const base = target.pathname.replace(/\/$/, '')
  if (rewrite === undefined) return base + (isMountItself(url, originalUrl, base) ? url.slice(1) : url)
  return rewritten(rewrite(url, request), url, rules, base)
}

async function rewritten(
  rewrite: unknown,
  url: string,
  rules: PathRules,
  base: string,
): Promise<string | undefined> {
  const given = await rewrite
  if (given === undefined || given === null) return base + url
  if (typeof given !== 'string') throw notAPath(given)
  const path = given.startsWith('/') ? given : `/${given}`
  return isPassed(path, rules) && !hasLostSlash(url, path) ? base + path : undefined
}

function isPassed(url: string, { encodedSeparators }: PathRules): boolean {
  const at = url.indexOf('?')
  const path = at === -1 ? url : url.slice(0, at)
  return (
    !NOT_OF_A_TARGET.test(url) &&
    !path.includes('\\') &&
    !DOT_SEGMENT.test(path) &&
    !ENCODED_WITHOUT_NEED.test(path) &&
    (encodedSeparators === 'pass' || !ENCODED_SEPARATOR.test(path))
  )
}

/** Whether a mount at `/api` was asked for as `/api`, of which routers make `/`. */
function isMountItself(url: string, originalUrl: string | undefined, base: string): boolean {
  if (base === '' || originalUrl === undefined || !/^\/(?:$|\?)/.test(url)) return false
  return !originalUrl.split('?', 1)[0]!.endsWith('/')
}

/**
 * Whether a router, or a rewrite, has removed a slash besides the beginning of a path that it is to remove. Guards in front have
 * seen that slash: Express 4 makes `/admin` of `/api//admin` at `/api`, and so does koa-mount at `/api/`. A path that the app
 * has changed on purpose differs in more than slashes.
 */
function hasLostSlash(before: string, after: string): boolean {
  if (!before.includes('//')) return false
  const [whole, left] = [pathOf(before), pathOf(after)]
  return doubled(left) < doubled(whole) && collapsed(whole).endsWith(collapsed(left))
}

function pathOf(url: string): string {
  return url.split('?', 1)[0]!
}

function doubled(path: string): number {
  return path.match(/\/(?=\/)/g)?.length ?? 0
}

function collapsed(path: string): string {
  return path.replace(/\/+/g, '/')
}

function notAPath(value: unknown): ConfigurationError {
  return new ConfigurationError(
    `\`pathRewrite\` has returned a value of type ${typeof value}. Return a path with its query as a string, or undefined ` +
      'to leave it as it is.',
  )
}

import { ConfigurationError, keptError, StepUpError, TokenError, type TokenErrorDetails } from './errors.js'

/** A failure that stands until its time is over: until then it is what callers get, and the server is not asked. */
export interface Rest {
  readonly error: TokenError
  /** How often the same has failed in a row. */
  readonly failures: number
  /** When the rest began, and when it ends, on the monotonic clock in milliseconds. */
  readonly from: number
  readonly until: number
  /** The server was out of reach. The success of another grant's refresh shows that it is back, and ends the rest, once. */
  readonly endsWithOutage: boolean
}

interface Bounds {
  readonly firstMs: number
  readonly maxMs: number
}

/** The server was out of reach, or too busy: a user waits for a server that is back for 10 s at most. */
const UNAVAILABLE: Bounds = { firstMs: 1_000, maxMs: 10_000 }
/** The server refused the client or the request. It will do so until an operator has changed something. */
const REFUSED: Bounds = { firstMs: 1_000, maxMs: 60_000 }
/** The server refused one need of a grant. It will do so until the user has taken part. */
const NEED_REFUSED: Bounds = { firstMs: 60_000, maxMs: 900_000 }

const BOUNDS: Partial<Record<TokenError['code'], Bounds>> = {
  ERR_TOKEN_ENDPOINT_UNAVAILABLE: UNAVAILABLE,
  // A proxy on the way answers so as well.
  ERR_INVALID_TOKEN_RESPONSE: UNAVAILABLE,
  ERR_CLIENT_REJECTED: REFUSED,
  ERR_TOKEN_ENDPOINT: REFUSED,
  ERR_CONFIGURATION: REFUSED,
  ERR_STEP_UP_REQUIRED: NEED_REFUSED,
  ERR_INSUFFICIENT_SCOPE: NEED_REFUSED,
}

/** How much shorter than its full length a rest may be, so that many grants do not come back at the same moment. */
const JITTER = 1 / 4

/**
 * The rest after a failed refresh; `undefined` where a failure is no reason to rest, such as that of a grant store.
 *
 * A server that said when to come back (`Retry-After`) is taken at its word, but a server that is back may be asked earlier.
 *
 * @param now the monotonic clock
 * @param succeededAt when the server refreshed some other grant last
 */
export function restAfter(
  error: TokenError,
  before: Rest | undefined,
  now: number,
  succeededAt = Number.NEGATIVE_INFINITY,
): Rest | undefined {
  const bounds = isNeedRefusal(error) ? NEED_REFUSED : BOUNDS[error.code]
  if (!bounds) return undefined
  // Who has kept quiet for longer than the longest rest begins with the shortest.
  const failures = before && now - before.until <= bounds.maxMs ? before.failures + 1 : 1
  const fullMs = Math.min(bounds.firstMs * 2 ** (failures - 1), bounds.maxMs)
  const ms = error.retryAfterMs || fullMs * (1 - JITTER * Math.random())
  // A grant that fails again while others succeed has a failure of its own.
  const isOwn = failures > 1 && before !== undefined && succeededAt > before.from
  const endsWithOutage = error.code === 'ERR_TOKEN_ENDPOINT_UNAVAILABLE' && isOutage(error) && !isOwn
  return { error: keptError(error), failures, from: now, until: now + ms, endsWithOutage }
}

/** Whether the server refused one need of a grant, and not the grant. */
export function isNeedRefusal(error: TokenError): boolean {
  const { cause, code, error: said } = error
  return (
    code === 'ERR_STEP_UP_REQUIRED' ||
    (code === 'ERR_INSUFFICIENT_SCOPE' && said !== undefined) ||
    (code === 'ERR_REAUTHENTICATION_REQUIRED' && cause instanceof StepUpError)
  )
}

/**
 * Whether the failure of a refresh that names a scope, a resource or an audience may be about these: the other access tokens
 * of the grant are asked for as before. A server that is out of reach, or refuses the client, does so for all of them.
 */
export function mayBeAboutNeed({ code, error }: TokenError): boolean {
  if (code === 'ERR_CLIENT_REJECTED') return error === 'unauthorized_client'
  return code !== 'ERR_TOKEN_ENDPOINT_UNAVAILABLE'
}

/** 429 and an OAuth error are about this client or this user: they say nothing of the others. */
function isOutage({ error, responseStatus }: TokenError): boolean {
  return error === undefined && responseStatus !== 429
}

/** The failure once more, with the time that is left. */
export function restingError({ error, until }: Rest, now: number): TokenError {
  const { cause, code, error: said, errorDescription, responseStatus } = error
  if (error instanceof StepUpError || error instanceof ConfigurationError) return error
  const details: TokenErrorDetails = {
    retryAfterMs: Math.ceil(until - now),
    ...(cause !== undefined && { cause }),
    ...(said !== undefined && { error: said }),
    ...(errorDescription !== undefined && { errorDescription }),
    ...(responseStatus !== undefined && { responseStatus }),
  }
  return new TokenError(code, error.message, details)
}

/** How often APIs have refused a token that was replaced at once, and when last. */
export interface Replacements {
  readonly count: number
  /** On the monotonic clock, in milliseconds. */
  readonly lastAt: number
}

/** So many refused tokens are replaced at once; from the next one within a minute on there is a wait. */
const AT_ONCE = 3
const MINUTE_MS = 60_000

/**
 * The replacements after one more; `undefined` if it comes too soon. An API that refuses every token, such as one that
 * expects another audience, would have the refresh token rotated at each call.
 *
 * @param now the monotonic clock
 */
export function oneMoreReplacement(before: Replacements | undefined, now: number): Replacements | undefined {
  if (!before) return { count: 1, lastAt: now }
  const waitMs = before.count < AT_ONCE ? 0 : Math.min(1_000 * 2 ** (before.count - AT_ONCE), MINUTE_MS)
  const sinceMs = now - before.lastAt
  if (sinceMs < waitMs) return undefined
  const isOver = sinceMs > Math.max(MINUTE_MS, 2 * waitMs)
  return { count: isOver ? 1 : before.count + 1, lastAt: now }
}

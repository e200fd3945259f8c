import { ACCESS_TOKEN_TTL } from './plan.js'
import type {
  Exchange,
  Grant,
  Incarnation,
  Issue,
  LibraryEvent,
  OlderToken,
  Pause,
  Presentation,
  RedisRestart,
} from './records.js'

/** Why the library could not know what had become of a refresh token when it presented it once more. */
export type Excuse =
  /** The authorization server did not look at it: it may be presented again. */
  | 'it had not been used'
  | 'the answer was lost with its connection'
  | 'the answer was lost with its process, which was killed'
  | 'outcome unknown: the holder was paused longer than its lease'
  | 'outcome unknown: it was on its way when its process was paused longer than its lease'
  /** The login was dead by then, and nobody could be told. */
  | 'it had been refused, and Redis was out of reach'
  | 'it had been logged out, and Redis was out of reach or had forgotten that'
  /** What a job gets is in the grant store alone until the session's next request. */
  | 'a job knew or got it, and Redis had forgotten the newer one'

/** A lease of 5 s that was renewed 1.7 s before its holder was paused lapses after this. */
const LEASE_MAY_LAPSE_AFTER_MS = 3_200

/** A refresh token that came to the authorization server once more. */
export interface Repetition {
  readonly grant: Grant
  readonly earlier: Presentation
  readonly later: Presentation
  /** Absent when there is none: then I1 is violated. */
  readonly excuse?: Excuse
}

/** Every presentation of a refresh token after its first, with what excuses it least. */
export function repetitionsOf(
  grant: Grant,
  redisRestarts: readonly RedisRestart[] = [],
  incarnations: readonly Incarnation[] = [],
): Repetition[] {
  const records = { redisRestarts, incarnations }
  return grant.presentations.flatMap((later, index) => {
    const earlier = grant.presentations.slice(0, index).filter(({ serial }) => serial === later.serial)
    if (earlier.length === 0) return []
    const judged = earlier.map((one) => ({
      earlier: one,
      excuse:
        excuseOf(grant, one, later, records) ??
        excuseOfRefused(one, later, redisRestarts) ??
        excuseOfLoggedOut(grant, later, redisRestarts),
    }))
    const worst = judged.find(({ excuse }) => !excuse) ?? judged.find(({ excuse }) => excuse !== NOT_USED)
    const { earlier: first, excuse } = worst ?? judged[0]!
    return [{ grant, earlier: first, later, ...(excuse && { excuse }) }]
  })
}

/** What happened besides to those who present refresh tokens. */
interface Records {
  readonly redisRestarts: readonly RedisRestart[]
  readonly incarnations: readonly Incarnation[]
}

const NOT_USED = 'it had not been used'
const FORGOTTEN_OF_JOB = 'a job knew or got it, and Redis had forgotten the newer one'
const ON_ITS_WAY = 'outcome unknown: it was on its way when its process was paused longer than its lease'

function excuseOf(
  grant: Grant,
  earlier: Presentation,
  later: Presentation,
  records: Records,
): Excuse | undefined {
  const { redisRestarts } = records
  const lost = earlier.lostAt !== undefined && earlier.lostAt <= later.at
  const over = lost || earlier.status !== undefined
  if (earlier.outcome === 'other' || (over && earlier.outcome === undefined)) return NOT_USED
  // What is on its way knows nothing of what has become known since.
  if (wasOvertaken(later, earlier)) return ON_ITS_WAY
  if (wasOfJob(grant, earlier, later, records)) return FORGOTTEN_OF_JOB
  // Whoever presents the next one knows it.
  if (isKnown(grant, earlier, later, records)) return undefined
  const stored = storedAt(grant, earlier, later.at, redisRestarts) ?? Number.POSITIVE_INFINITY
  // A process that is killed takes its connections with it.
  if (wasKilled(earlier, stored, later.at)) return 'the answer was lost with its process, which was killed'
  if (lost) return 'the answer was lost with its connection'
  if (later.by !== earlier.by && wasPaused(earlier, stored, later.sentAt)) {
    return 'outcome unknown: the holder was paused longer than its lease'
  }
  return wasOvertaken(earlier, later) ? ON_ITS_WAY : undefined
}

/**
 * Whether Redis had forgotten the tokens that a presentation brought, and nobody could tell a process of them: a job reads no session,
 * and the tokens of a job are in no session.
 */
function wasOfJob(grant: Grant, earlier: Presentation, later: Presentation, records: Records): boolean {
  const { redisRestarts, incarnations } = records
  const forgotten = redisRestarts.some(({ downAt }) => downAt >= earlier.at && downAt <= later.sentAt)
  if (!forgotten) return false
  if (later.isJob) return !hasHeard(grant, earlier.serial + 1, later.by, later.sentAt)
  return earlier.isJob === true && !isTold(grant, earlier.serial + 1, later.by, later.sentAt, incarnations)
}

function excuseOfRefused(
  { outcome, at }: Presentation,
  later: Presentation,
  redisRestarts: readonly RedisRestart[],
): Excuse | undefined {
  if (outcome !== 'invalid_grant') return undefined
  const meanwhile = redisRestarts.some(({ downAt, upAt = later.at }) => downAt <= later.at && upAt >= at)
  return meanwhile ? 'it had been refused, and Redis was out of reach' : undefined
}

/** The user had logged out, and whoever presents it could not know: Redis alone had been told. */
function excuseOfLoggedOut(
  { logout, libraryId }: Grant,
  { by, sentAt }: Presentation,
  redisRestarts: readonly RedisRestart[],
): Excuse | undefined {
  if (logout?.ended === undefined || logout.ended > sentAt) return undefined
  const knew = by.events.some(
    ({ type, grantId, at }) => type === 'end heard' && grantId === libraryId && at <= sentAt,
  )
  const { began } = logout
  const forgotten = redisRestarts.some(({ downAt, upAt = sentAt }) => downAt <= sentAt && upAt >= began)
  return forgotten && !knew
    ? 'it had been logged out, and Redis was out of reach or had forgotten that'
    : undefined
}

/** Whether the tokens that a presentation brought had been presented themselves, and could still be found. */
function isKnown(grant: Grant, presentation: Presentation, later: Presentation, records: Records): boolean {
  const issue = grant.issues.find(({ answers }) => answers === presentation)
  if (!issue) return false
  const next = grant.presentations.find(({ serial, at }) => serial === issue.serial && at < later.at)
  return next !== undefined && !wereForgotten(grant, next, later, records)
}

/** Whether what was presented next was in Redis alone until that forgot it, and whoever comes later had not heard of it. */
function wereForgotten(grant: Grant, next: Presentation, later: Presentation, records: Records): boolean {
  const { redisRestarts, incarnations } = records
  const forgotten = redisRestarts.some(({ downAt }) => downAt >= next.at && downAt <= later.sentAt)
  return forgotten && !isTold(grant, next.serial, later.by, later.sentAt, incarnations)
}

/** Whether the tokens from a serial on had been found in the session store, or heard of by a process, at some time. */
function isTold(
  grant: Grant,
  serial: number,
  to: Incarnation,
  until: number,
  incarnations: readonly Incarnation[],
): boolean {
  const tokens = new Set(grant.issues.slice(serial - 1).map(({ refreshToken }) => refreshToken))
  return incarnations.some((incarnation) =>
    incarnation.events.some(
      ({ type, at, refreshToken }) =>
        at <= until &&
        tokens.has(refreshToken ?? '') &&
        (type === 'stored' || (type === 'heard' && incarnation === to)),
    ),
  )
}

/** Whether a process had heard of the tokens from a serial on, from the grant store. */
function hasHeard(grant: Grant, serial: number, by: Incarnation, until: number): boolean {
  const tokens = new Set(grant.issues.slice(serial - 1).map(({ refreshToken }) => refreshToken))
  return by.events.some(
    ({ type, at, refreshToken }) => type === 'heard' && at <= until && tokens.has(refreshToken ?? ''),
  )
}

function wasKilled({ by: { killedAt } }: Presentation, stored: number, until: number): boolean {
  return killedAt !== undefined && killedAt <= until && killedAt < stored
}

function wasPaused({ by, at }: Presentation, stored: number, until: number): boolean {
  return by.pauses.some(
    (pause) => isLong(pause, until) && pause.from < stored && (pause.to ?? Number.POSITIVE_INFINITY) > at,
  )
}

function isLong({ from, to }: Pause, until: number): boolean {
  return Math.min(to ?? until, until) - from >= LEASE_MAY_LAPSE_AFTER_MS
}

/**
 * It had been sent off when its process was paused, and had not arrived; and the pause had lasted for longer than its lease
 * when another process sent off the same refresh token.
 */
function wasOvertaken({ by, sentAt, at }: Presentation, other: Presentation): boolean {
  if (other.by === by) return false
  return by.pauses.some(({ from, to = at }) => {
    const [held, released] = [Math.max(from, sentAt), Math.min(to, at)]
    return Math.min(released, other.sentAt) - held >= LEASE_MAY_LAPSE_AFTER_MS
  })
}

/**
 * When what a presentation brought was stored where everybody finds it: in the session, or in Redis for as long as that
 * did not forget. A commit before the authorization server had processed it was of earlier tokens, which a process stored again.
 * So was one that names an earlier refresh token: a token exchange stores it together with the token that it has brought.
 */
function storedAt(
  grant: Grant,
  presentation: Presentation,
  until: number,
  redisRestarts: readonly RedisRestart[],
): number | undefined {
  const { by, at, judgedAt: since = at } = presentation
  const events = by.events.filter(({ grantId, at }) => grantId === grant.libraryId && at >= since)
  const isOfEarlier = ({ refreshToken }: LibraryEvent) => namesEarlier(grant, presentation, refreshToken)
  const committed = events.find((event) => event.type === 'committed' && !isOfEarlier(event))
  const forgotten = redisRestarts.some(({ downAt }) => downAt >= since && downAt <= until)
  if (committed && !forgotten) return committed.at
  const refreshed = events.findIndex((event) => event.type === 'refreshed' && !isOfEarlier(event))
  if (refreshed === -1) return undefined
  const failed = events.slice(0, refreshed).some(({ type }) => type === 'session_write_failed')
  return failed ? undefined : events[refreshed]!.at
}

/** Whether a refresh token was issued before the one that a presentation brought. */
function namesEarlier(grant: Grant, presentation: Presentation, refreshToken: string | undefined): boolean {
  const issue = grant.issues.find(({ answers }) => answers === presentation)
  const earlier = grant.issues.slice(0, issue ? issue.serial - 1 : 0)
  return earlier.some((issue) => issue.refreshToken === refreshToken)
}

/** Why a login was lost, from the authorization server's records. */
export interface Loss {
  readonly grant: Grant
  /** Absent when the login should not have been lost: then I6 is violated. */
  readonly reason?: Excuse
  /** What had gone wrong with the answer that carried the next refresh token. */
  readonly fault?: string
  readonly explanation: string
}

export function lossOf(
  grant: Grant,
  redisRestarts: readonly RedisRestart[] = [],
  incarnations: readonly Incarnation[] = [],
): Loss {
  const records = { redisRestarts, incarnations }
  const refusal = grant.presentations
    .filter(({ outcome }) => outcome === 'invalid_grant')
    .sort((a, b) => a.judgedAt! - b.judgedAt!)[0]
  if (!refusal) return { grant, explanation: 'the authorization server had never refused it' }
  const used = grant.presentations.find(
    ({ serial, outcome, judgedAt }) =>
      serial === refusal.serial && outcome === 'succeeded' && judgedAt! <= refusal.judgedAt!,
  )
  if (!used) return { grant, explanation: 'the authorization server refused a token that had not been used' }
  const [first, second] = used.at < refusal.at ? [used, refusal] : [refusal, used]
  const reason = excuseOf(grant, first, second, records) ?? lostAnyway(grant, refusal, records)
  const name = `${grant.login}/${used.serial}`
  const explanation = `${name} was used by ${used.by.name} and presented again by ${refusal.by.name}`
  if (!reason || reason === NOT_USED) return { grant, explanation }
  return { grant, explanation, reason, fault: first.fault ?? 'no answer in time, or at any time' }
}

/** Why nobody could have gone on with the login, whatever was presented: the newest refresh token never arrived. */
function lostAnyway(grant: Grant, refusal: Presentation, records: Records): Excuse | undefined {
  const { answers } = grant.issues.findLast(({ at }) => at <= refusal.judgedAt!)!
  return answers && excuseOf(grant, answers, refusal, records)
}

/**
 * When a session write of a process was under way while that was paused: what it wrote was old when it arrived, and no
 * store that can only read and write has a remedy.
 */
export function lateWritesTo(grants: readonly Grant[], incarnations: Iterable<Incarnation>): number[] {
  const names = new Set(grants.map(({ libraryId }) => libraryId))
  return [...incarnations].flatMap(({ events, pauses }) =>
    events.flatMap(({ type, grantId, at, to = at }) => {
      const paused = pauses.some((pause) => pause.from >= at && pause.from < to)
      return type === 'long write' && names.has(grantId) && paused ? to : []
    }),
  )
}

/** Why tokens that came after a logout need not have been revoked. */
export type LateExcuse =
  | 'its process was killed'
  | 'its answer was lost with its connection'
  | 'the revocation failed'
  | 'Redis was out of reach, or had forgotten the logout'

/** Tokens that arrived when their login had been logged out, so that the library had to revoke them. */
export function lateIssuesOf(
  grant: Grant,
  redisRestarts: readonly RedisRestart[],
): { issue: Issue; excuse?: LateExcuse }[] {
  const { logout } = grant
  if (logout?.ended === undefined) return []
  const late = grant.issues.filter(({ answers }) => answers && (answers.answeredAt ?? 0) > logout.ended!)
  return late.map((issue) => {
    const excuse = lateExcuse(grant, issue, redisRestarts)
    return { issue, ...(excuse && { excuse }) }
  })
}

function lateExcuse(
  grant: Grant,
  { serial, answers }: Issue,
  redisRestarts: readonly RedisRestart[],
): LateExcuse | undefined {
  const { by, lostAt } = answers!
  if (by.killedAt !== undefined) return 'its process was killed'
  if (lostAt !== undefined) return 'its answer was lost with its connection'
  if (grant.revocations.some((revocation) => revocation.serial === serial && !revocation.processed)) {
    return 'the revocation failed'
  }
  const { began, failures } = grant.logout!
  const forgotten = redisRestarts.some(({ upAt = began }) => upAt >= began)
  return forgotten || failures.length > 0 ? 'Redis was out of reach, or had forgotten the logout' : undefined
}

/**
 * Whether an older token may have been served: it was still valid, and when the request for it began nobody had found a
 * newer one in the session store yet, nor had the process that served it heard of one. A valid token is served without
 * asking anybody. For a job only the latter counts.
 */
export function mayBeServed(
  grant: Grant,
  { by, began, at, serial, isJob }: OlderToken,
  incarnations: readonly Incarnation[],
): boolean {
  const { answers, at: issuedAt } = grant.issues[serial - 1]!
  const obtainedAt = (answers ? readAt(answers, at, AT_RESPONSE_MS) : grant.loggedInAt) ?? issuedAt
  if (obtainedAt + ACCESS_TOKEN_TTL * 1000 < at) return false
  return isJob ? !hasHeard(grant, serial + 1, by, began) : !isTold(grant, serial + 1, by, began, incarnations)
}

/** A process that is paused when its response is sent is paused at most this much later, before it has read the response. */
const AT_RESPONSE_MS = 50

/** When a process read a response: at the end of a pause, if it was paused when the response came, or at most `lateMs` later. */
function readAt(
  { by, answeredAt }: Pick<Presentation, 'by' | 'answeredAt'>,
  until: number,
  lateMs = 0,
): number | undefined {
  if (answeredAt === undefined) return undefined
  const pause = by.pauses.find(({ from, to = until }) => from <= answeredAt + lateMs && to >= answeredAt)
  return pause ? (pause.to ?? until) : answeredAt
}

/** A busy machine reads a response later by this much. */
const LATE_MS = 1_000

/** Whether the token of an exchange had expired at a time, wherever its response was for that long. */
export function hadExpired(exchange: Exchange, at: number): boolean {
  const read = readAt(exchange, at, LATE_MS)
  // The connection broke: when the response was read is not known.
  return read !== undefined && read + LATE_MS + ACCESS_TOKEN_TTL * 1000 < at
}

/** The authorization server counts whole seconds, and takes some time to respond: a token expires this much early. */
const EARLY_MS = 1_500

/**
 * The exchanges that the authorization server refused for no reason that the library could not know: the token had not expired, and its
 * login was not over.
 */
export function wronglyRefused(grant: Grant): Exchange[] {
  const { exchanges, issues, presentations, revocations } = grant
  const overAt = Math.min(
    ...presentations.flatMap(({ outcome, judgedAt }) => (outcome === 'invalid_grant' ? judgedAt! : [])),
    ...revocations.map(({ at }) => at),
  )
  return exchanges.filter(({ outcome, serial, judgedAt }) => {
    if (outcome !== 'refused') return false
    const expiresAt = issues[serial - 1]!.at + ACCESS_TOKEN_TTL * 1000 - EARLY_MS
    return judgedAt! < Math.min(expiresAt, overAt)
  })
}

/**
 * The exchanges of an access token that was older than one which its process had heard of, or which lay in the session, when it asked.
 * A process that was paused, and one whose Redis forgot, may be behind.
 */
export function exchangesOfOlder(
  grant: Grant,
  redisRestarts: readonly RedisRestart[],
  incarnations: readonly Incarnation[],
): Exchange[] {
  return grant.exchanges.filter(({ by, isJob = false, sentAt, serial }) => {
    // A process that leases the grant reads both stores before it sends.
    const asked = sentAt - LATE_MS
    const isKnownOf = isJob
      ? hasHeard(grant, serial + 1, by, asked)
      : isTold(grant, serial + 1, by, asked, incarnations)
    const wasBehind =
      by.pauses.some(({ from, to = sentAt }) => from <= sentAt && to >= asked) ||
      redisRestarts.some(({ downAt }) => downAt <= sentAt && downAt >= grant.issues[serial - 1]!.at)
    return isKnownOf && !wasBehind
  })
}

/** Tokens that were issued, whose fate the library must have known for all that happened. */
export function newestKnownSerial(grant: Grant, redisRestarts: readonly RedisRestart[] = []): number {
  const known = grant.issues.findLast(({ answers }) => {
    if (!answers) return true
    if (answers.answeredAt === undefined || answers.lostAt !== undefined) return false
    return storedAt(grant, answers, Number.POSITIVE_INFINITY, redisRestarts) !== undefined
  })
  return known?.serial ?? 1
}

import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { replaceOlder, takeOutCopies } from './copy-writes.js'
import { within } from './deadline.js'
import type { TokenError } from './errors.js'
import type { TokenEventListener } from './events.js'
import type { GrantState, GrantStore, Retention } from './grants/grant-store.js'
import type { KnownGrants } from './grants/known-grants.js'
import { grantStoreFailed } from './refusals.js'
import type { Retentions } from './retention.js'
import type { SessionAdapter, SessionHome } from './sessions/session-adapter.js'
import type { SessionCopies } from './sessions/session-copy.js'
import { secretsOf, type TokenSet, withShare } from './token-set.js'

export interface RestorationContext {
  readonly grants: GrantStore
  /** Whether the grant store keeps what the session cannot, for other processes as well. */
  readonly keepsForOthers?: boolean
  readonly known: KnownGrants
  readonly copies: SessionCopies
  readonly retentions: Retentions
  readonly emit: TokenEventListener
}

/** Which places did not take a token set, or an end. */
export interface Refused {
  readonly record: boolean
  readonly copy: boolean
}

/** What this process sees to of one grant. Tokens and end are in `KnownGrants`. */
interface Entry {
  readonly grantId: string
  /** Where its session is stored; absent where the session goes with the response. */
  readonly home: SessionHome | undefined
  /** Which of the grant's sessions that is. */
  readonly share: string | undefined
  readonly notedAt: number
  /** For how long the grant store is to remember it. */
  retention: Retention | undefined
  /** The newest revision that the grant store has acknowledged, or shown. */
  revision: number
  /** The tokens that a store lacks. Held here, since `KnownGrants` may forget them. */
  tokens: TokenSet | undefined
  lacksRecord: boolean
  lacksCopy: boolean
  /** The grant store may have lost it. */
  isInDoubt: boolean
  /** `tokens_unsaved` was told, and nothing has taken the tokens since. */
  isTold: boolean
  failures: number
}

/** How many grants are seen to. Of more, those that were stored longest ago are forgotten. */
const MAX_GRANTS = 10_000
/** A store that goes back further than this, in milliseconds, is not noticed. */
const MAX_AGE_MS = 2 * 3_600_000
/** How often the grant store is asked for what it was given last, in milliseconds. */
const SAMPLE_EVERY_MS = 2_000
/** How soon a store that has failed is tried again, in milliseconds: doubling, up to SAMPLE_EVERY_MS. */
const FIRST_RETRY_MS = 250
/** How many grants are stored again at a time, and the pause after them: a store that has come back has much to do. */
const AT_ONCE = 8
const PAUSE_MS = 5
/** After all grants were looked at, one lost record is no reason to look at all of them again, in milliseconds. */
const DOUBT_AGAIN_MS = 10_000
/** How long one operation of a store may take, in milliseconds. */
const OPERATION_MS = 2_000
/** How long `close()` tries, in milliseconds. */
const CLOSE_MS = 5_000

/**
 * Stores again what this process has and a store does not: what the stores refused, for as long as the process lives,
 * and what a grant store acknowledged and has lost, since it came back with an earlier state. The same for the ends of
 * grants.
 *
 * A lost record is noticed in three ways: the grant store tells (`onLoss`), a response shows an older record than was
 * committed, and every two seconds the record that was committed last is read. Then every grant is looked at, the most
 * recent first. A grant that has ended gets its end again, never its tokens.
 */
export class Restoration {
  readonly #context: RestorationContext
  /** The grants in the order in which they were noted. */
  readonly #entries = new Map<string, Entry>()
  readonly #stopListening: (() => void) | undefined
  #timer: NodeJS.Timeout | undefined
  #dueAt = Number.POSITIVE_INFINITY
  #round: Promise<boolean> | undefined
  #retryMs = FIRST_RETRY_MS
  #doubtedAt = Number.NEGATIVE_INFINITY
  #isClosed = false

  constructor(context: RestorationContext) {
    this.#context = context
    this.#stopListening = context.grants.onLoss?.(() => this.#doubtAll())
  }

  /** Notes tokens that were stored, or refused. Tokens that neither place took are told as an event, once. */
  noteTokens(tokens: TokenSet, session: SessionAdapter, refused: Refused, home = session.home): void {
    const { copies, emit, keepsForOthers, retentions } = this.#context
    const { grantId } = tokens
    const earlier = this.#entries.get(grantId)
    const revision = refused.record ? (earlier?.revision ?? 0) : tokens.revision
    const entry = this.#note(grantId, home, refused, revision, tokens.share)
    if (entry) entry.retention = retentions.ofGrant(session)
    if (entry && isLacking(entry)) entry.tokens = tokens
    const isStored = !refused.copy && !copies.isReference
    const isUnsaved = entry !== undefined && !isStored && (refused.record || !keepsForOthers)
    if (!isUnsaved && earlier) this.#tell(earlier, tokens, 'refused')
    if (!isUnsaved || earlier?.isTold) return
    entry.isTold = true
    emit({ type: 'tokens_unsaved', grantId, error: unsaved(tokens) })
  }

  /** Notes that a grant has ended, and where that could not be told. */
  noteEnd(grantId: string, home: SessionHome | undefined, refused: Refused, retention: Retention): void {
    const entry = this.#note(grantId, home, refused, 0)
    if (entry) entry.retention = retention
  }

  /** Forgets the tokens of a grant that has ended: its end is to be stored now. */
  forgetEnded(grantId: string): void {
    const entry = this.#entries.get(grantId)
    if (entry && this.#context.known.ended(grantId)) entry.tokens = undefined
  }

  /** Compares a response of the grant store with what this process has, and notes what is in it. */
  noteState(grantId: string, { ended, record }: GrantState, home?: SessionHome): void {
    const entry = this.#entries.get(grantId)
    const revision = record?.revision ?? 0
    if (!entry && record) this.#note(grantId, home, { record: false, copy: false }, revision)
    if (!entry || entry.lacksRecord || ended) return
    if (this.#context.known.ended(grantId) || revision < entry.revision) this.#doubt(entry)
    else entry.revision = revision
  }

  /** Tries for at most 5 seconds to store what would be lost with this process, and stops. */
  async close(): Promise<void> {
    this.#isClosed = true
    this.#stopListening?.()
    clearTimeout(this.#timer)
    const until = performance.now() + CLOSE_MS
    await within(CLOSE_MS, this.#flush(until), tooLong).catch(() => {})
  }

  async #flush(until: number): Promise<void> {
    await this.#round
    while (this.#pending().some((entry) => this.#isAtRisk(entry)) && performance.now() < until) {
      if (!(await this.#restoreAll())) await delay(this.#backOff())
    }
  }

  /** Whether it is lost with this process, as far as that can be known. */
  #isAtRisk(entry: Entry): boolean {
    const isEnd = this.#context.known.ended(entry.grantId) !== undefined
    return entry.isTold || entry.isInDoubt || (isEnd && isLacking(entry))
  }

  #note(
    grantId: string,
    home: SessionHome | undefined,
    refused: Refused,
    revision: number,
    share?: string,
  ): Entry | undefined {
    const { keepsForOthers = false } = this.#context
    const earlier = this.#entries.get(grantId)
    const entry: Entry = {
      grantId,
      home: home ?? earlier?.home,
      share: home ? share : earlier?.share,
      notedAt: performance.now(),
      revision,
      retention: earlier?.retention,
      tokens: undefined,
      lacksRecord: refused.record,
      lacksCopy: refused.copy && home !== undefined,
      isInDoubt: false,
      isTold: earlier?.isTold === true && refused.record,
      failures: 0,
    }
    this.#entries.delete(grantId)
    // A grant store in this process loses nothing, and the next request brings a copy up to date.
    if (!keepsForOthers && !isLacking(entry)) return undefined
    this.#entries.set(grantId, entry)
    if (this.#entries.size > MAX_GRANTS) this.#forgetOne()
    this.#schedule(isLacking(entry) ? FIRST_RETRY_MS : SAMPLE_EVERY_MS)
    return entry
  }

  #forgetOne(): void {
    const [oldest] = this.#entries.values()
    const stored = [...this.#entries.values()].find((entry) => !isLacking(entry))
    this.#entries.delete((stored ?? oldest!).grantId)
  }

  /** A grant store that has lost one record may have lost others. One that keeps nothing is not asked for all each time. */
  #doubt(entry: Entry): void {
    if (performance.now() - this.#doubtedAt > DOUBT_AGAIN_MS) this.#doubtAll()
    else {
      entry.isInDoubt = true
      this.#schedule(0)
    }
  }

  #doubtAll(): void {
    this.#doubtedAt = performance.now()
    for (const entry of this.#entries.values()) entry.isInDoubt = true
    this.#schedule(0)
  }

  /** Has the next round begin in so many milliseconds, unless it begins sooner. */
  #schedule(ms: number): void {
    const dueAt = performance.now() + ms
    if (this.#isClosed || this.#entries.size === 0 || dueAt >= this.#dueAt) return
    clearTimeout(this.#timer)
    this.#dueAt = dueAt
    this.#timer = setTimeout(() => void this.#goOn(), ms)
    // It must not keep a process alive that has nothing else to do.
    this.#timer.unref()
  }

  async #goOn(): Promise<void> {
    this.#round ??= this.#pending().length > 0 ? this.#restoreAll() : this.#sample()
    const isWell = await this.#round
    this.#round = undefined
    this.#dueAt = Number.POSITIVE_INFINITY
    if (isWell) this.#retryMs = FIRST_RETRY_MS
    this.#schedule(isWell && this.#pending().length === 0 ? SAMPLE_EVERY_MS : this.#backOff())
  }

  /** For how long to wait after a failure; longer the next time. */
  #backOff(): number {
    const ms = this.#retryMs
    this.#retryMs = Math.min(2 * ms, SAMPLE_EVERY_MS)
    return ms
  }

  /** What is to be stored again, or may be: the most recent first, and what failed before last. */
  #pending(): Entry[] {
    const pending = [...this.#entries.values()].filter((entry) => entry.isInDoubt || isLacking(entry))
    return pending.reverse().sort((a, b) => a.failures - b.failures)
  }

  /** Reads the record that was committed last. Resolves with whether the grant store responded. */
  async #sample(): Promise<boolean> {
    this.#forgetOld()
    const newest = [...this.#entries.values()].at(-1)
    if (!newest) return true
    try {
      if (!(await this.#isHeld(newest, newest.revision))) this.#doubt(newest)
      return true
    } catch {
      return false
    }
  }

  #forgetOld(): void {
    const now = performance.now()
    for (const { grantId, notedAt } of this.#entries.values()) {
      if (now - notedAt < MAX_AGE_MS) return
      this.#entries.delete(grantId)
    }
  }

  /** Resolves with `false` when the stores fail: one grant is tried before the others are. */
  async #restoreAll(): Promise<boolean> {
    const pending = this.#pending()
    const [first, ...others] = pending
    if (first && !(await this.#restored(first))) return false
    for (let at = 0; at < others.length; at += AT_ONCE) {
      const some = others.slice(at, at + AT_ONCE)
      const restored = await Promise.all(some.map((entry) => this.#restored(entry)))
      if (!restored.includes(true)) return false
      await delay(PAUSE_MS)
    }
    return true
  }

  /** Resolves with whether both places have now what they should. */
  async #restored(entry: Entry): Promise<boolean> {
    const { isInDoubt } = entry
    // A loss that is noticed from here on is another one.
    entry.isInDoubt = false
    const record = await settled(this.#restoreRecord(entry))
    const copy = await settled(this.#restoreCopy(entry))
    if (!record) entry.isInDoubt ||= isInDoubt
    if (!record || !copy) entry.failures++
    else this.#restoredFully(entry)
    return record && copy
  }

  #restoredFully(entry: Entry): void {
    const { grantId } = entry
    entry.tokens = undefined
    entry.failures = 0
    // What was noted meanwhile is seen to by itself.
    const isNewest = this.#entries.get(grantId) === entry
    if (!this.#context.keepsForOthers && isNewest) this.#entries.delete(grantId)
  }

  async #restoreRecord(entry: Entry): Promise<void> {
    const { copies, grants, keepsForOthers, known } = this.#context
    const { grantId } = entry
    if (!keepsForOthers && !entry.lacksRecord) return
    const tokens = this.#tokensOf(entry)
    if (!(await this.#isHeld(entry, tokens?.revision))) {
      const ended = known.ended(grantId)
      if (ended) await inTime(grants.end(grantId, ended, entry.retention))
      else if (tokens) {
        const record = { revision: tokens.revision, tokens: copies.record(tokens) }
        const state = await inTime(grants.commit(grantId, randomUUID(), record, entry.retention))
        if (state.ended) known.end(grantId, state.ended)
        else if (!entry.lacksRecord) this.#tell(entry, tokens, 'lost')
        entry.revision = tokens.revision
      }
      // Both may be in the same storage.
      entry.lacksCopy = entry.home !== undefined && (ended !== undefined || !copies.isReference)
    }
    entry.lacksRecord = false
    if (tokens) this.#tell(entry, tokens, 'refused')
  }

  async #restoreCopy(entry: Entry): Promise<void> {
    const { known } = this.#context
    const { grantId, home } = entry
    if (!entry.lacksCopy || !home) return
    const tokens = this.#tokensOf(entry)
    if (known.ended(grantId)) await inTime(takeOutCopies(this.#context, home, [grantId]))
    else if (tokens) {
      await inTime(replaceOlder(this.#context, home, withShare(tokens, entry.share)))
      if (known.ended(grantId)) await inTime(takeOutCopies(this.#context, home, [grantId]))
      else this.#tell(entry, tokens, 'refused')
    }
    entry.lacksCopy = false
  }

  #tell(entry: Entry, { grantId, revision }: TokenSet, after: 'refused' | 'lost'): void {
    if (after === 'refused' && !entry.isTold) return
    entry.isTold = false
    this.#context.emit({ type: 'tokens_stored_again', grantId, revision, after })
  }

  /** Whether the grant store has a revision or a newer one, or the end if there is one; what is news is learned. */
  async #isHeld(entry: Entry, revision = 0): Promise<boolean> {
    const { copies, grants, known } = this.#context
    const { grantId } = entry
    const { ended, record } = await inTime(grants.read(grantId))
    if (ended) known.end(grantId, ended)
    if (ended || known.ended(grantId)) return ended !== undefined
    const tokens = this.#tokensOf(entry)
    const found = tokens && copies.readRecord(tokens, record?.tokens)
    if (found) known.learn(found, true)
    entry.revision = Math.max(entry.revision, record?.revision ?? 0)
    return (record?.revision ?? 0) >= revision
  }

  #tokensOf({ grantId, tokens }: Entry): TokenSet | undefined {
    const { known } = this.#context
    return known.ended(grantId) ? undefined : (known.peek(grantId) ?? tokens)
  }
}

function isLacking({ lacksCopy, lacksRecord }: Entry): boolean {
  return lacksCopy || lacksRecord
}

async function settled(work: Promise<void>): Promise<boolean> {
  try {
    await work
    return true
  } catch {
    return false
  }
}

function inTime<T>(operation: Promise<T>): Promise<T> {
  return within(OPERATION_MS, operation, tooLong)
}

const tooLong = () => new Error('The store did not respond in time.')

function unsaved(tokens: TokenSet): TokenError {
  return grantStoreFailed(
    'Neither the session store nor the grant store has taken refreshed tokens. This process alone has them, and tries again ' +
      'for as long as it lives',
    { secrets: secretsOf(tokens) },
  )
}

import { setTimeout as delay } from 'node:timers/promises'
import { LAST_RETRY_MS, SAMPLE_EVERY_MS } from '../../concurrency/time-constants.js'
import { withTimeout } from '../../concurrency/with-timeout.js'
import type { TokenError } from '../../errors/token-error.js'
import type { GrantState, Retention } from '../../grants/grant-store.js'
import { grantStoreError } from '../../grants/grant-store-error.js'
import type { SessionAdapter, SessionHome } from '../../sessions/session-adapter.js'
import { type GrantIdentity, identityOf, wholeGrant } from '../../tokens/grant-proof.js'
import { secretsOf, type TokenSet } from '../../tokens/token-set.js'
import type { ManagerContext } from '../manager-context.js'
import type { SessionWriter } from '../session-writer.js'
import { isLacking, type Missing, RestorationEntries, type RestorationEntry } from './restoration-entries.js'
import { Restorer } from './restorer.js'

export interface RestorationContext
  extends Pick<ManagerContext, 'codec' | 'emit' | 'registry' | 'retentions' | 'shared'> {
  readonly sessionWriter: SessionWriter
}

/** How soon a store that failed is tried again, in milliseconds; doubling, up to LAST_RETRY_MS. */
const FIRST_RETRY_MS = 250
/** How many grants are stored again at the same time. A store that works again has many requests to serve. */
const AT_ONCE = 8
/** The pause after each {@link AT_ONCE} grants, in milliseconds. */
const PAUSE_MS = 5
/** How long after a check of all grants a lost record causes no further check of all grants, in milliseconds. */
const DOUBT_AGAIN_MS = 10_000
/** How long `close()` tries, in milliseconds. */
const CLOSE_MS = 5_000

/**
 * Stores tokens and ends again that this process has and a store lacks, for as long as the process lives. Either the store failed
 * to store them, or a grant store confirmed them and then lost them, since it came back with an earlier state.
 *
 * A lost record is noticed in three ways: the grant store reports it (`onLoss`), a response shows an older record than was
 * committed, and every two seconds the record that was committed last is read. Then every grant is looked at, the most recent
 * first. For a grant that has ended, only the end is stored again, and never the tokens.
 */
export class Restoration {
  readonly #context: RestorationContext
  readonly #entries = new RestorationEntries()
  readonly #restorer: Restorer
  readonly #stopListening: (() => void) | undefined
  #timer: NodeJS.Timeout | undefined
  #dueAt = Number.POSITIVE_INFINITY
  #round: Promise<boolean> | undefined
  #retryMs = FIRST_RETRY_MS
  #doubtedAt = Number.NEGATIVE_INFINITY
  #isClosed = false

  constructor(context: RestorationContext) {
    this.#context = context
    this.#restorer = new Restorer(context)
    this.#stopListening = context.shared.store.onLoss?.(() => this.#doubtAll())
  }

  /**
   * Notes tokens that were stored, or that a store failed to store. Tokens that no store has stored are an event, once.
   *
   * @param later where a session without a storage of its own can be written to after the request
   */
  noteTokens(tokens: TokenSet, session: SessionAdapter, missing: Missing, later?: SessionHome): void {
    const { codec, emit, retentions, shared } = this.#context
    const { grantId } = tokens
    const earlier = this.#entries.get(grantId)
    // A grant store in this process loses nothing, and the next request brings a copy up to date.
    if (!shared.isShared && !earlier && !missing.record && !missing.copy) return
    const home = session.home ?? later
    const revision = missing.record ? (earlier?.revision ?? 0) : tokens.revision
    const entry = this.#note(wholeGrant(grantId), home, missing, revision, tokens.share)
    if (entry) entry.retention = retentions.ofGrant(session)
    if (entry && isLacking(entry)) entry.tokens = tokens
    const isStored = !missing.copy && !codec.writesReferences
    const isUnsaved = entry !== undefined && !isStored && (missing.record || !shared.isShared)
    if (!isUnsaved && earlier) this.#restorer.report(earlier, tokens, 'refused')
    if (!isUnsaved || earlier?.isReportedUnsaved) return
    entry.isReportedUnsaved = true
    emit({ type: 'tokens_unsaved', grantId, error: unsavedError(tokens) })
  }

  /** Notes that a grant or a share has ended, and the stores that do not know of it. */
  noteEnd(of: GrantIdentity, home: SessionHome | undefined, missing: Missing, retention: Retention): void {
    const entry = this.#note(of, home, missing, 0)
    if (entry) entry.retention = retention
  }

  /** Forgets the tokens of a grant that has ended: from now on its end is to be stored. */
  forgetEnded(grantId: string): void {
    const entry = this.#entries.get(grantId)
    if (entry && this.#context.registry.ended(grantId)) entry.tokens = undefined
  }

  /**
   * Compares a response of the grant store with the knowledge of this process. Notes the revision in it, or that the store has
   * lost a newer record or an end.
   */
  noteState(grantId: string, { ended, record }: GrantState, session?: SessionAdapter): void {
    if (!this.#context.shared.isShared && this.#entries.size === 0) return
    const entry = this.#entries.get(grantId)
    const revision = record?.revision ?? 0
    if (!entry && record) {
      this.#note(wholeGrant(grantId), session?.home, { record: false, copy: false }, revision)
    }
    if (!entry || entry.lacksRecord || ended) return
    if (this.#context.registry.ended(grantId) || revision < entry.revision) this.#doubt(entry)
    else entry.revision = revision
  }

  /** Tries for at most 5 seconds to store the tokens and ends that would be lost with this process, and stops. */
  async close(): Promise<void> {
    this.#isClosed = true
    try {
      this.#stopListening?.()
    } catch {
      // A loss that it hears of from now on starts no round.
    }
    clearTimeout(this.#timer)
    const until = performance.now() + CLOSE_MS
    await withTimeout(CLOSE_MS, this.#flush(until), tooLong).catch(() => {})
  }

  async #flush(until: number): Promise<void> {
    await this.#round
    while (this.#entries.pending().some((entry) => this.#isAtRisk(entry)) && performance.now() < until) {
      if (!(await this.#restoreAll())) await delay(this.#nextRetryMs())
    }
  }

  /** Whether the tokens or the end would be lost with this process, as far as it can know. */
  #isAtRisk(entry: RestorationEntry): boolean {
    const isEnd = this.#context.registry.endOf(entry.of) !== undefined
    return entry.isReportedUnsaved || entry.isInDoubt || (isEnd && isLacking(entry))
  }

  #note(
    of: GrantIdentity,
    home: SessionHome | undefined,
    missing: Missing,
    revision: number,
    share?: string,
  ): RestorationEntry | undefined {
    const identity = identityOf(of)
    const earlier = this.#entries.get(identity)
    const entry: RestorationEntry = {
      of,
      home: home ?? earlier?.home,
      share: home ? share : earlier?.share,
      notedAt: performance.now(),
      revision,
      retention: earlier?.retention,
      tokens: undefined,
      lacksRecord: missing.record,
      lacksCopy: missing.copy && home !== undefined,
      isInDoubt: false,
      isReportedUnsaved: earlier?.isReportedUnsaved === true && missing.record,
      failures: 0,
    }
    // A grant store in this process loses nothing, and the next request brings a copy up to date.
    if (!this.#context.shared.isShared && !isLacking(entry)) {
      this.#entries.delete(identity)
      return undefined
    }
    this.#entries.put(identity, entry)
    this.#schedule(isLacking(entry) ? FIRST_RETRY_MS : SAMPLE_EVERY_MS)
    return entry
  }

  /** Looks at all grants after one lost record, but not each time: a grant store may keep nothing at all. */
  #doubt(entry: RestorationEntry): void {
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

  /** Starts the next round in so many milliseconds, unless it starts sooner. */
  #schedule(ms: number): void {
    const dueAt = performance.now() + ms
    if (this.#isClosed || this.#entries.size === 0 || dueAt >= this.#dueAt) return
    clearTimeout(this.#timer)
    this.#dueAt = dueAt
    this.#timer = setTimeout(() => void this.#runRound(), ms)
    // The timer must not keep a process alive that has nothing else to do.
    this.#timer.unref()
  }

  async #runRound(): Promise<void> {
    this.#round ??= this.#entries.pending().length > 0 ? this.#restoreAll() : this.#sample()
    const isWell = await this.#round
    this.#round = undefined
    this.#dueAt = Number.POSITIVE_INFINITY
    if (isWell) this.#retryMs = FIRST_RETRY_MS
    this.#schedule(isWell && this.#entries.pending().length === 0 ? SAMPLE_EVERY_MS : this.#nextRetryMs())
  }

  /** Returns how long to wait after a failure, and doubles it for the next time. */
  #nextRetryMs(): number {
    const ms = this.#retryMs
    this.#retryMs = Math.min(2 * ms, LAST_RETRY_MS)
    return ms
  }

  /** Reads the record that was committed last. Resolves with whether the grant store responded. */
  async #sample(): Promise<boolean> {
    this.#entries.deleteOld()
    const newest = this.#entries.newest()
    if (!newest) return true
    try {
      if (!(await this.#restorer.isHeld(newest, newest.revision))) this.#doubt(newest)
      return true
    } catch {
      return false
    }
  }

  /** Resolves with `false` if the stores fail: one grant is tried before the others. */
  async #restoreAll(): Promise<boolean> {
    const [first, ...others] = this.#entries.pending()
    if (first && !(await this.#restore(first))) return false
    for (let at = 0; at < others.length; at += AT_ONCE) {
      const some = others.slice(at, at + AT_ONCE)
      const restored = await Promise.all(some.map((entry) => this.#restore(entry)))
      if (!restored.includes(true)) return false
      await delay(PAUSE_MS)
    }
    return true
  }

  /** Resolves with whether both stores have the tokens or the end now. */
  async #restore(entry: RestorationEntry): Promise<boolean> {
    const identity = identityOf(entry.of)
    const isRestored = await this.#restorer.both(entry)
    // A newer entry of the same grant is restored separately.
    const isNewest = this.#entries.get(identity) === entry
    if (isRestored && !this.#context.shared.isShared && isNewest) this.#entries.delete(identity)
    return isRestored
  }
}

const tooLong = () => new Error('The store did not respond in time.')

function unsavedError(tokens: TokenSet): TokenError {
  return grantStoreError(
    'Neither the session store nor the grant store has stored refreshed tokens. Only this process has them, so do not stop it: ' +
      'it tries again until a store takes them',
    { secrets: secretsOf(tokens) },
  )
}

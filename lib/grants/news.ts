import type { Clock } from '../concurrency/clock.js'
import { detached } from '../concurrency/detached.js'
import {
  CATCH_UP_PATIENCE_MS,
  CHECK_WITHOUT_NEWS_MS,
  GRANT_STORE_TIMEOUT_MS,
  LAST_RETRY_MS,
  NEWS_CHECK_MS,
  RECENT_ENDS_MS,
  SUBSCRIBE_PATIENCE_MS,
} from '../concurrency/time-constants.js'
import { withTimeout } from '../concurrency/with-timeout.js'
import { ownValue, parseJsonObject } from '../options/own-properties.js'
import { digestOf, type GrantIdentity, identityOf, partsOf } from '../tokens/grant-proof.js'
import type { GrantEnd, GrantStore, RecentEnd } from './grant-store.js'

export interface NewsContext {
  readonly store: GrantStore
  /** Whether the option `grants` is given and is not a grant store in memory, so that other processes may use the store, too. */
  readonly isShared: boolean
  readonly clock: Clock
  /** Names the client and its authorization server. */
  readonly audience: string
}

/** How long this process remembers the ends that it has heard of, in milliseconds. */
export const HEARD_END_TTL_MS = 24 * 3_600_000
/** How much further back than the last time a check of the recent ends goes, in milliseconds. The clocks of hosts may differ. */
const OVERLAP_MS = 60_000

/**
 * Tells the other processes the news of this one, and receives theirs: the ends of grants, and other short texts. No text holds a
 * token.
 *
 * Only a process with access to the grant store can publish. A text may be lost. So the recent ends are read before the first token
 * is handed out, and again when a connection was lost, and otherwise every {@link NEWS_CHECK_MS}: a connection may be dead without a
 * sign of it. While no text can arrive, the ends are read every {@link CHECK_WITHOUT_NEWS_MS}.
 */
export class News {
  /** Called with the end of a grant, or of the share of one session, in another process or in this one. */
  onEnd: (of: GrantIdentity, reason: GrantEnd) => void = () => {}
  /** Called with the id of a grant whose record is to be read again. */
  onChange: (grantId: string) => void = () => {}
  /** Called with every other text. */
  onText: (text: string) => void = () => {}
  /** Whether this process knows the recent ends. If not, {@link catchUp} is to be waited for before a token is handed out. */
  isCurrent: boolean
  readonly #context: NewsContext
  readonly #client: string
  #isListening = false
  /** Whether texts arrive. A connection may be dead without a sign of it. */
  #isOpen = false
  #stopListening: (() => void) | undefined
  #opened: Promise<void> | undefined
  #catchingUp: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  /** All ends since this time are known here, by the clock of this host. */
  #knownSince = Number.POSITIVE_INFINITY
  /** When the recent ends were last read, on both clocks. */
  #readAt: { readonly now: number; readonly monotonic: number } | undefined
  /** Texts may have been lost since the last time that the recent ends were read. */
  #mayHaveMissed = false
  #isClosed = false

  constructor(context: NewsContext) {
    this.#context = context
    this.#client = digestOf(context.audience).slice(0, 22)
    this.isCurrent = !context.isShared
  }

  /** Whether this process knows all ends since a time, in milliseconds since the epoch. */
  knowsEndsSince(time: number): boolean {
    const { clock, isShared, store } = this.#context
    if (!isShared || !store.recentEnds) return true
    return time >= this.#knownSince && time >= clock.now() - HEARD_END_TTL_MS
  }

  /** Begins to listen, if it has not begun. */
  listen(): void {
    const { store } = this.#context
    if (this.#isListening || this.#isClosed || !store.subscribe) return
    this.#isListening = true
    let opened = () => {}
    this.#opened = new Promise((resolve) => (opened = resolve))
    const onOpen = () => {
      opened()
      this.#isOpen = true
      this.#mayHaveMissed = this.#context.isShared
      this.isCurrent = !this.#mayHaveMissed
      if (this.#mayHaveMissed) void this.catchUp()
    }
    const onInterrupted = () => {
      // A client may report each attempt to connect that fails.
      if (!this.#isOpen) return
      this.#isOpen = false
      if (this.#readAt !== undefined) this.#schedule(CHECK_WITHOUT_NEWS_MS)
    }
    try {
      this.#stopListening = detached(() =>
        store.subscribe!((text) => this.#hear(text), onOpen, onInterrupted),
      )
    } catch {
      // The recent ends are read as long as no text arrives.
    }
  }

  /**
   * Resolves when this process knows the recent ends, or after a second: a grant store that fails does not withhold valid tokens. The
   * ends are read later then. Never rejects.
   */
  catchUp(): Promise<void> {
    this.#catchingUp ??= detached(() => Promise.resolve().then(() => this.#catchUp())).finally(() => {
      this.#catchingUp = undefined
    })
    return this.#catchingUp
  }

  async #catchUp(): Promise<void> {
    this.listen()
    const patience = withTimeout(SUBSCRIBE_PATIENCE_MS, this.#opened ?? Promise.resolve(), tooLate)
    const reading = patience.catch(() => {}).then(() => this.#read())
    await withTimeout(CATCH_UP_PATIENCE_MS, reading, tooLate).catch(() => {})
    this.isCurrent = !this.#mayHaveMissed
  }

  /** Reads the recent ends. Never rejects: after a failure it is tried again soon. */
  async #read(): Promise<void> {
    const { clock, isShared, store } = this.#context
    if (!isShared || !store.recentEnds) return
    clearTimeout(this.#timer)
    this.#mayHaveMissed = false
    const startedAt = { now: clock.now(), monotonic: clock.monotonic() }
    const sinceMs = this.#sinceRead(startedAt)
    const withinMs = Math.min(sinceMs, RECENT_ENDS_MS)
    try {
      const ends = await withTimeout(GRANT_STORE_TIMEOUT_MS, store.recentEnds(withinMs), tooLate)
      for (const end of ends) this.#learn(end)
      if (sinceMs >= RECENT_ENDS_MS) this.#knownSince = clock.now() - RECENT_ENDS_MS + OVERLAP_MS
      this.#readAt = startedAt
      this.#schedule(this.#hearsAll ? NEWS_CHECK_MS : CHECK_WITHOUT_NEWS_MS)
    } catch {
      this.#schedule(LAST_RETRY_MS)
    }
  }

  /**
   * Returns of how many milliseconds the ends are to be read. While a host sleeps, its monotonic clock stands still, and only the other
   * clock goes on.
   */
  #sinceRead({ now, monotonic }: { readonly now: number; readonly monotonic: number }): number {
    const last = this.#readAt
    return last ? Math.max(monotonic - last.monotonic, now - last.now) + OVERLAP_MS : RECENT_ENDS_MS
  }

  /** Whether no text can have been lost since the last read began, as far as the grant store can tell. */
  get #hearsAll(): boolean {
    return !this.#context.store.subscribe || (this.#isOpen && !this.#mayHaveMissed)
  }

  #schedule(ms: number): void {
    clearTimeout(this.#timer)
    if (this.#isClosed) return
    this.#timer = setTimeout(() => void this.#read(), ms)
    // The timer must not keep a process alive that has nothing else to do.
    this.#timer.unref()
  }

  #learn({ grantId, ended }: RecentEnd): void {
    if (isReason(ended)) this.onEnd(partsOf(grantId), ended)
  }

  /** Tells all processes that a grant, or the share of one session, has ended. */
  tellEnd(of: GrantIdentity, reason: GrantEnd): void {
    void this.publish(JSON.stringify({ ended: identityOf(of), reason, client: this.#client }))
  }

  /** Tells all processes that the record of a grant is to be read again. */
  tellChange(grantId: string): void {
    void this.publish(JSON.stringify({ changed: grantId, client: this.#client }))
  }

  /** Sends a text without tokens to all processes. Does nothing if the grant store cannot do so. Never rejects. */
  async publish(text: string): Promise<void> {
    try {
      await this.#context.store.publish?.(text)
    } catch {
      // The other processes read the recent ends.
    }
  }

  #hear(text: string): void {
    const told = parseJsonObject(text)
    if (!told) return
    const ended = ownValue(told, 'ended')
    const changed = ownValue(told, 'changed')
    if (ended === undefined && changed === undefined) this.onText(text)
    if (ownValue(told, 'client') !== this.#client) return
    const reason = ownValue(told, 'reason')
    if (typeof ended === 'string' && isReason(reason)) this.onEnd(partsOf(ended), reason)
    if (typeof changed === 'string') this.onChange(changed)
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
    try {
      this.#stopListening?.()
    } catch {
      // What it hears from now on changes nothing.
    }
  }
}

const REASONS: readonly unknown[] = ['logged_out', 'replaced', 'backchannel_logout'] satisfies GrantEnd[]

function isReason(reason: unknown): reason is GrantEnd {
  return REASONS.includes(reason)
}

const tooLate = () => new Error('The grant store did not respond in time.')

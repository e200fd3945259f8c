import type { BackgroundTasks } from '../concurrency/background-tasks.js'
import { withTimeout } from '../concurrency/with-timeout.js'
import type { SessionAdapter } from '../sessions/session-adapter.js'
import { raceWindowOver, recentRefreshOver } from '../sessions/store/write-race.js'
import { identityOf } from '../tokens/grant-proof.js'
import { type TokenSet, withShare } from '../tokens/token-set.js'
import type { ManagerContext } from './manager-context.js'
import { ReportedOnce } from './reported-once.js'
import type { SessionWriter, Written } from './session-writer.js'

export interface SessionRepairContext
  extends Pick<ManagerContext, 'clock' | 'codec' | 'emit' | 'registry' | 'shared' | 'timeoutMs'> {
  readonly sessionWriter: SessionWriter
}

/** Brings stale session copies up to date. */
export class SessionRepair {
  readonly #context: SessionRepairContext
  readonly #background: BackgroundTasks
  /** The revision up to which a request has repaired the stored session. */
  readonly #repaired = new WeakMap<SessionAdapter, number>()
  /** Remembers the stale copies that were reported: several requests may bring the same one. */
  readonly #reported = new ReportedOnce()

  constructor(context: SessionRepairContext, background: BackgroundTasks) {
    this.#context = context
    this.#background = background
  }

  /**
   * Starts to bring a stored session with a stale copy up to date: an earlier write failed, or another process saved an old
   * session over it. Does so once for each request, and not during a refresh, which stores its tokens by itself.
   */
  repair(session: SessionAdapter, tokens: TokenSet): void {
    if (session.isCookieBased) return
    const { registry, sessionWriter, shared } = this.#context
    const stale = this.#staleCopy(session, tokens)
    if (!stale || registry.peek(tokens.grantId)?.inFlight) return
    if ((this.#repaired.get(session) ?? 0) >= tokens.revision) return
    const isRecent = registry.wasRefreshedElsewhere(tokens.grantId)
    this.#background.runOnce(`repair ${identityOf(stale)}`, async () => {
      // Another process may be about to write the same tokens. A repair at the same time could undo what the app saves at that moment.
      if (shared.isShared) await (isRecent ? recentRefreshOver() : raceWindowOver())
      const written = await sessionWriter.store(session, withShare(tokens, stale.share))
      if (written) this.#repaired.set(session, tokens.revision)
      this.#report(written, tokens, stale)
    })
  }

  #report(written: Written | false, { grantId, revision }: TokenSet, stale: TokenSet): void {
    if (written !== 'replaced' || !this.#reported.isFirst(`${identityOf(stale)} ${revision}`)) return
    this.#context.emit({ type: 'session_repaired', grantId, revision })
  }

  /** Puts the newest tokens into a session that goes with the response, if the headers have not been sent. */
  async writeToResponse(session: SessionAdapter, tokens: TokenSet): Promise<void> {
    const { clock, sessionWriter, timeoutMs } = this.#context
    const stale = session.isCookieBased && this.#staleCopy(session, tokens)
    if (!stale) return
    try {
      session.checkStorable()
    } catch {
      // The next request with this cookie gets the newest tokens from this process or the grant store.
      return
    }
    const stored = sessionWriter.store(session, withShare(tokens, stale.share), clock.monotonic())
    // A custom session layer may hang. The caller has its token, and a later request repairs the session.
    const written = await withTimeout(timeoutMs, stored, tooLate).catch(() => false as const)
    this.#report(written, tokens, stale)
  }

  /**
   * Starts to remove the copy of an ended grant. The process that brought the copy back may have died before it could remove it.
   */
  removeEnded(session: SessionAdapter): void {
    const { codec, sessionWriter, shared } = this.#context
    const held = codec.read(session.read())
    if (held === undefined || !shared.isShared) return
    this.#background.runOnce(`remove ${identityOf(held)}`, () => sessionWriter.remove(session, held))
  }

  /**
   * Returns the tokens that a session holds, if they are older than the given tokens. Returns `undefined` for a copy that leads to
   * the tokens in the grant store: it needs no repair.
   */
  #staleCopy(session: SessionAdapter, tokens: TokenSet): TokenSet | undefined {
    const { codec } = this.#context
    const copy = session.read()
    const held = codec.read(copy)
    if (held === undefined || held.revision >= tokens.revision) return undefined
    return codec.leadsToTokens(copy) ? undefined : held
  }
}

const tooLate = () => new Error('The session did not take the tokens in time.')

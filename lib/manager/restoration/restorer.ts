import { withTimeout } from '../../concurrency/with-timeout.js'
import type { TokenSet } from '../../tokens/token-set.js'
import { withShare, withSharesOf } from '../../tokens/token-set.js'
import type { RestorationContext } from './restoration.js'
import type { RestorationEntry } from './restoration-entries.js'

/** How long one operation of a store may take, in milliseconds. */
const OPERATION_MS = 2_000

/** Stores the tokens or the end of one grant again, in the grant store and in its session. */
export class Restorer {
  readonly #context: RestorationContext

  constructor(context: RestorationContext) {
    this.#context = context
  }

  /** Resolves with whether both stores have the tokens or the end now. Never rejects. */
  async both(entry: RestorationEntry): Promise<boolean> {
    const { isInDoubt } = entry
    // A loss that is noticed from here on is another one.
    entry.isInDoubt = false
    const hasRecord = await succeeds(this.#restoreRecord(entry))
    const hasCopy = await succeeds(this.#restoreCopy(entry))
    if (!hasRecord) entry.isInDoubt ||= isInDoubt
    const hasBoth = hasRecord && hasCopy
    if (hasBoth) entry.tokens = undefined
    entry.failures = hasBoth ? 0 : entry.failures + 1
    return hasBoth
  }

  async #restoreRecord(entry: RestorationEntry): Promise<void> {
    const { codec, registry, shared } = this.#context
    if (!shared.isShared && !entry.lacksRecord) return
    if (!(await this.isHeld(entry, this.#tokensOf(entry)?.revision))) {
      await this.#learnFromHome(entry)
      const tokens = this.#tokensOf(entry)
      const ended = registry.endOf(entry.of)
      if (ended) await shared.end(entry.of, ended, entry.retention, OPERATION_MS)
      else if (tokens && this.#mayBeNewest(entry)) {
        const state = await shared.commit(tokens, entry.retention, true, OPERATION_MS)
        if (!state.ended && !entry.lacksRecord) this.report(entry, tokens, 'lost')
        entry.revision = tokens.revision
      } else entry.revision = 0
      // The session may be in the same storage.
      entry.lacksCopy = entry.home !== undefined && (ended !== undefined || !codec.writesReferences)
    }
    entry.lacksRecord = false
    const tokens = this.#tokensOf(entry)
    if (tokens) this.report(entry, tokens, 'refused')
  }

  /**
   * Whether the tokens may be stored again. Tokens that another process got are out of date if it has refreshed again since: without
   * the session to look into, they are left to that process, and to the session's next request.
   */
  #mayBeNewest({ home, of }: RestorationEntry): boolean {
    const { codec, registry } = this.#context
    return home !== undefined || codec.writesReferences || !registry.peek(of.grantId)?.isFromAnotherProcess
  }

  /** Learns tokens that are in the session alone: another process may have refreshed and have gone since. */
  async #learnFromHome({ home, of }: RestorationEntry): Promise<void> {
    const { codec, registry, shared } = this.#context
    const found = home && codec.read(await inTime(home.reread()).catch(() => undefined))
    if (found?.grantId !== of.grantId || found.isReference) return
    shared.learnTokens(withSharesOf(found, registry.tokensOf(of.grantId)))
  }

  async #restoreCopy(entry: RestorationEntry): Promise<void> {
    const { registry, sessionWriter } = this.#context
    const { home, of, share } = entry
    if (!entry.lacksCopy || !home) return
    const tokens = this.#tokensOf(entry)
    if (tokens && !registry.endOf(of))
      await inTime(sessionWriter.replaceOlder(home, withShare(tokens, share)))
    if (registry.endOf(of)) await inTime(sessionWriter.remove(home, of))
    else if (tokens) this.report(entry, tokens, 'refused')
    entry.lacksCopy = false
  }

  /** Emits that tokens are stored again. Without an earlier `tokens_unsaved`, refused tokens are no event. */
  report(entry: RestorationEntry, { grantId, revision }: TokenSet, after: 'refused' | 'lost'): void {
    if (after === 'refused' && !entry.isReportedUnsaved) return
    entry.isReportedUnsaved = false
    this.#context.emit({ type: 'tokens_stored_again', grantId, revision, after })
  }

  /** Resolves with whether the grant store has a revision or a newer one, or the end if there is one. Learns from its state. */
  async isHeld(entry: RestorationEntry, revision = 0): Promise<boolean> {
    const { codec, registry, shared } = this.#context
    const { of } = entry
    const { ended, record } = await shared.peek(of, OPERATION_MS)
    if (ended) shared.learnEnd(of, ended)
    if (ended || registry.endOf(of)) return ended !== undefined
    const tokens = this.#tokensOf(entry)
    const found = tokens && codec.readRecord(tokens, record?.tokens)
    if (found) shared.learnTokens(found)
    entry.revision = Math.max(entry.revision, record?.revision ?? 0)
    return (record?.revision ?? 0) >= revision
  }

  #tokensOf({ of, tokens }: RestorationEntry): TokenSet | undefined {
    const { registry } = this.#context
    if (registry.endOf(of)) return undefined
    return registry.peek(of.grantId)?.tokens ?? tokens
  }
}

async function succeeds(work: Promise<void>): Promise<boolean> {
  try {
    await work
    return true
  } catch {
    return false
  }
}

function inTime<T>(operation: Promise<T>): Promise<T> {
  return withTimeout(OPERATION_MS, operation, () => new Error('The session store did not respond in time.'))
}

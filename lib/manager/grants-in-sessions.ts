import type { EndedSession } from '../sessions/session-adapter.js'
import type { GrantSession, SessionGrants } from '../sessions/session-grants.js'
import type { TokenSet } from '../tokens/token-set.js'
import type { Shares, SharesContext } from './grant-shares.js'
import type { SessionWriter } from './session-writer.js'

export interface GrantsInSessionsContext extends SharesContext {
  readonly shares: Shares
  readonly sessionWriter: SessionWriter
}

/** Gives session adapters the state of the grants in their sessions, and ends grants for them. */
export class GrantsInSessions implements SessionGrants {
  readonly #context: GrantsInSessionsContext

  constructor(context: GrantsInSessionsContext) {
    this.#context = context
  }

  newestOf(of: GrantSession): TokenSet | 'ended' | undefined {
    return this.#context.registry.newestOf(of)
  }

  async end(of: GrantSession, seen: TokenSet | undefined, session: EndedSession): Promise<boolean> {
    return (await this.#context.shares.leave(session, of, 'logged_out', seen)).mayRace
  }

  isOutdated(stored: TokenSet): Promise<boolean> {
    return this.#context.sessionWriter.isOutdated(stored)
  }

  onChange(listener: (grantId: string) => void): () => void {
    return this.#context.registry.onChange(listener)
  }
}

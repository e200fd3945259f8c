import type { SessionGrants } from '../sessions/session-grants.js'
import type { Shares, SharesContext } from './grant-shares.js'
import type { SessionWriter } from './session-writer.js'

export interface GrantsInSessionsContext extends SharesContext {
  readonly shares: Shares
  readonly sessionWriter: SessionWriter
}

/** Gives session adapters the state of the grants in their sessions, and ends grants for them. */
export function grantsInSessions({
  registry,
  sessionWriter,
  shared,
  shares,
}: GrantsInSessionsContext): SessionGrants {
  return {
    isShared: shared.isShared,
    newestOf: registry.newestOf.bind(registry),
    onChange: registry.onChange.bind(registry),
    isOutdated: sessionWriter.isOutdated.bind(sessionWriter),
    async end(of, seen, session) {
      return (await shares.leave(session, of, 'logged_out', seen)).mayRace
    },
  }
}

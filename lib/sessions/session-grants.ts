import type { TokenSet } from '../tokens/token-set.js'
import type { EndedSession } from './session-adapter.js'

/** Names a session of a grant: by the grant alone, or by the session's share where several sessions are in the grant. */
export type GrantSession = Pick<TokenSet, 'grantId' | 'share'>

/** The knowledge of this process about grants, for a session layer. */
export interface SessionGrants {
  /** Whether other processes use the same grants, so that they may log a user in in any session. */
  readonly isShared: boolean
  /**
   * Returns the newest token set that this process knows of a session's grant; `'ended'` if it knows that the session's share of
   * the grant has ended, or the grant as a whole.
   */
  newestOf(of: GrantSession): TokenSet | 'ended' | undefined
  /**
   * Ends a session's share of a grant: the app has removed the copy, or destroyed the session that held it. Resolves with
   * whether another process may be about to write a newer copy. Never rejects.
   *
   * @param seen the token set that the session held, if it could be read
   */
  end(of: GrantSession, seen: TokenSet | undefined, session: EndedSession): Promise<boolean>
  /**
   * Whether another process has refreshed or ended the grant of a token set that was just stored, so that the stored session
   * must be checked. Never rejects.
   */
  isOutdated(stored: TokenSet): Promise<boolean>
  /**
   * Calls back whenever this process learns newer tokens of a grant, or that the grant or one of its sessions has ended.
   * Returns a function that stops the calls.
   */
  onChange(listener: (grantId: string) => void): () => void
}

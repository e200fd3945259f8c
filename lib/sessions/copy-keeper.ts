import type { EndedSession } from './session-adapter.js'

/** Knows session copies from the inside, for a session layer that only sees opaque values. */
export interface CopyKeeper {
  /** The grant that a copy belongs to; `undefined` for what is not a copy of ours. */
  grantOf(copy: unknown): string | undefined
  /** Whether this process knows that the grant has ended. */
  isEnded(grantId: string): boolean
  /** The newest copy of the grant, those given and what is known considered; `undefined` when the grant has ended. */
  newestOf(grantId: string, ...copies: unknown[]): unknown
  /**
   * The app took a copy out, or destroyed the session that held it. Resolves with whether another process may be about to
   * write a newer one. Never rejects.
   */
  end(grantId: string, copy: unknown, session: EndedSession): Promise<boolean>
  /**
   * Whether another process has refreshed or ended the grant of a copy that was just stored, so that what is stored must
   * be looked at again. Never rejects.
   */
  isOutdated(copy: unknown): Promise<boolean>
}

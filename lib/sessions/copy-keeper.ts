/** Knows session copies from the inside, for a session layer that only sees opaque values. */
export interface CopyKeeper {
  /** The grant that a copy belongs to; `undefined` for what is not a copy of ours. */
  grantOf(copy: unknown): string | undefined
  /** Whether this process knows the newest tokens of the grant, or that it has ended. */
  knows(grantId: string): boolean
  /** Takes note of a copy that may be newer than what this process knows. */
  learn(copy: unknown): void
  /** The newest copy of the grant: `copy` itself when nothing newer is known, `undefined` when the grant has ended. */
  newestOf(grantId: string, copy?: unknown): unknown
  /** The session that held the grant was destroyed by the app. Never rejects. */
  end(grantId: string): Promise<void>
}

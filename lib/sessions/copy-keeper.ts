/** Knows session copies from the inside, for a session layer that only sees opaque values. */
export interface CopyKeeper {
  /** The grant that a copy belongs to; `undefined` for what is not a copy of ours. */
  grantOf(copy: unknown): string | undefined
  /** Whether this process knows that the grant has ended. */
  isEnded(grantId: string): boolean
  /** The newest copy of the grant, those given and what is known considered; `undefined` when the grant has ended. */
  newestOf(grantId: string, ...copies: unknown[]): unknown
  /** The session that held the grant was destroyed by the app. Never rejects. */
  end(grantId: string): Promise<void>
}

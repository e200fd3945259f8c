/** Where a session is stored. */
export interface SessionHome {
  /**
   * Replaces the copy in the session's storage and touches nothing else, neither there nor in the request's session;
   * takes it out if the new one is `undefined`.
   * `replaces` is asked with the copy that is stored at that moment; nobody in this process writes in between.
   * Resolves with `false` when it declined or when the session is gone.
   */
  replace(copy: unknown, replaces: (stored: unknown) => boolean): Promise<boolean>
}

/** A session whose grant is ended: for how long it could come back, and where it is stored. */
export type EndedSession = Pick<SessionAdapter, 'home' | 'maxAgeMs'>

/**
 * Reads and writes the session copy of one request's session.
 *
 * A copy is an opaque value of the library's own; `undefined` means that there is none. A method that cannot reach
 * the session's storage rejects.
 */
export interface SessionAdapter extends SessionHome {
  /**
   * Whether the session goes with the answer rather than into a store. Then what is newer has to be in it before the
   * handler answers.
   */
  readonly isInAnswer: boolean
  /**
   * For how long from now the session could come back, in milliseconds; `undefined` where its layer does not say. Looked at
   * when a grant is stored or ended, as it may differ from session to session. No I/O.
   */
  readonly maxAgeMs: number | undefined
  /** The copy as the request has it. No I/O. */
  read(): unknown
  /** The last copy that this request has had in its session, even if it has been taken out or regenerated since. */
  readonly seen: unknown
  /** Throws a `TokenError` with `ERR_HEADERS_SENT` if nothing can be put into the session any more. */
  checkStorable(): void
  /** The copy as the session's storage has it now. */
  reread(): Promise<unknown>
  /**
   * Puts a copy into the session, at login. Resolves when it is stored, with the grants that were stored in its place.
   * When it rejects the session holds what it held.
   */
  save(copy: unknown): Promise<readonly string[]>
  /** Where the session is stored, for a write after the request; it holds nothing of the request. Absent without a store. */
  readonly home?: SessionHome | undefined
  /** Takes the copy out of the request's session and out of the storage, if `clears` says so of what is stored. */
  clear(clears: (stored: unknown) => boolean): Promise<void>
}

/** Where a session is stored. */
export interface SessionHome {
  /** The id under which its store has the session. The property is absent if the home is not in a store. */
  readonly sid?: string | undefined
  /**
   * Replaces the copy in the session's storage, or removes it if the new copy is `undefined`. Changes nothing else, neither in
   * the storage nor in the request's session.
   *
   * `replaces` is called with the copy that is stored at that moment. No other operation of this process writes the session in
   * between. Resolves with `false` if `replaces` returned `false`, or if the session no longer exists.
   */
  replace(copy: unknown, replaces: (stored: unknown) => boolean): Promise<boolean>
  /** Reads the copy in the session's storage. */
  reread(): Promise<unknown>
}

/** A session whose grant is being ended: for how long it can come back, and where it is stored. */
export type EndedSession = Pick<SessionAdapter, 'home' | 'maxAgeMs'>

/**
 * Reads and writes the session copy of one request's session.
 *
 * A copy is an opaque value of the library's own; `undefined` means that there is none. A method that cannot reach
 * the session's storage rejects.
 */
export interface SessionAdapter extends SessionHome {
  /**
   * Whether the session travels in the response, not in a store. Then newer tokens must be in it before the handler sends the
   * response.
   */
  readonly isCookieBased: boolean
  /** Whether the session can be written to after the response, so that it gets the tokens of a refresh that no caller waits for. */
  readonly canStoreLater: boolean
  /** Whether no copy can be stored, so that the grant store alone gets new tokens. Default: `false`. */
  readonly isReadOnly?: boolean
  /**
   * For how long from now a request can still bring the session, in milliseconds; `undefined` where its layer does not say. The
   * property is read when a grant is stored or ended, since sessions may have different lifetimes. No I/O.
   */
  readonly maxAgeMs: number | undefined
  /** Reads the copy in the request's session. No I/O. */
  read(): unknown
  /** The last copy that this request has had in its session, even if the copy was removed or the session regenerated since. */
  readonly lastKnown: unknown
  /** Throws a `TokenError` with `ERR_HEADERS_SENT` if the session can no longer be changed. */
  checkStorable(): void
  /**
   * Puts a copy into the session, at login. Resolves when it is stored, with the identities of the grants that it replaces. When
   * it rejects, the session is unchanged.
   */
  save(copy: unknown): Promise<readonly string[]>
  /**
   * Gives the session another id, and no data but these fields. The copy of the tokens is removed, and `lastKnown` still has it.
   * The method is absent if sessions of the layer have no id.
   */
  regenerate?(fields: readonly string[]): Promise<void>
  /**
   * Where the session is stored, for a write after the request. The home keeps nothing of the request in memory. `undefined` if
   * the session is not in a store.
   */
  readonly home?: SessionHome | undefined
  /** Removes the copy from the request's session, and from the storage if `clears` agrees for the stored copy. */
  clear(clears: (stored: unknown) => boolean): Promise<void>
}

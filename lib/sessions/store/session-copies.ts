import type { TokenSet } from '../../tokens/token-set.js'
import type { TokenSetCodec } from '../codec/token-set-codec.js'
import type { GrantSession, SessionGrants } from '../session-grants.js'
import { putCopy } from '../session-key.js'
import type { SessionData } from './original-store.js'
import type { SessionBaseline } from './session-baseline.js'

/** Names a session of a grant and a revision of its tokens, without the tokens. */
export type Revision = GrantSession & Pick<TokenSet, 'revision'>

/** The value under the key of a session. `of` is `undefined` if the value is no copy of this codec. */
export interface HeldCopy<Of extends Revision = Revision> {
  readonly value: unknown
  readonly of: Of | undefined
}

/** The value of a session without a copy. */
export const NO_COPY: HeldCopy<TokenSet> = { value: undefined, of: undefined }

/** Reads the copies of sessions, and compares them with the knowledge of this process about their grants. */
export class SessionCopies {
  readonly #key: string
  readonly #codec: TokenSetCodec
  readonly #grants: SessionGrants

  constructor(key: string, codec: TokenSetCodec, grants: SessionGrants) {
    this.#key = key
    this.#codec = codec
    this.#grants = grants
  }

  valueIn(session: SessionData | undefined): unknown {
    return session && Object.hasOwn(session, this.#key) ? session[this.#key] : undefined
  }

  /**
   * Returns the copy in a session's data. `known` is a copy that was read already. Often it is the same, and is not read again.
   */
  in(session: SessionData | undefined, known = NO_COPY): HeldCopy<TokenSet> {
    const value = this.valueIn(session)
    return value === known.value ? known : { value, of: this.#codec.read(value) }
  }

  /**
   * Returns the newest copy of the grant that the first copy is of, or none if the grant has ended. A value that is no copy is
   * returned as it is.
   */
  newest(held: HeldCopy, other?: HeldCopy): HeldCopy {
    if (!held.of) return held
    const known = this.#grants.newestOf(held.of)
    if (known === 'ended') return NO_COPY
    const newest = newer(held, other)
    if (!known || known.revision <= newest.of!.revision) return newest
    return { value: this.#codec.write(known, held.of.share), of: revisionOf(held.of, known.revision) }
  }

  /**
   * Returns the copy that belongs into a session which is about to be stored: the newest of its grant. `before` is the token set
   * that the session was loaded with, if the app has removed it.
   *
   * @param held the copy in the session
   * @param remembered the copy that this process has stored last
   */
  toStore(
    held: HeldCopy<TokenSet>,
    loaded: SessionBaseline | undefined,
    stored: SessionData | undefined,
    remembered: HeldCopy | undefined,
  ): { readonly current: HeldCopy; readonly before?: TokenSet | undefined } {
    // Where the stored copy is older, the text that this process has written is better than the same tokens in another text.
    const kept = this.newest(this.in(stored, held), remembered)
    if (held.value !== undefined && kept.value !== undefined) return { current: newer(kept, held) }
    // The app meant to write a session as it is if it wrote it outside of a request.
    if (loaded === undefined) return { current: this.newest(held) }
    const before = this.in(loaded.values).of
    if (held.value !== undefined) {
      // Another request has removed the copy that this request was loaded with.
      const isRemoved = before && !loaded.isNew && isSameSession(before, held.of)
      return { current: isRemoved ? NO_COPY : this.newest(held) }
    }
    // The app has deleted the copy that the session was loaded with: a logout, unless another login is stored.
    return { before, current: before && isSameSession(before, kept.of) ? NO_COPY : kept }
  }

  /**
   * Returns a session with another copy, and with the prototype and all other properties of the given session, so that a store
   * sees no other difference.
   */
  put(session: SessionData, { value }: HeldCopy): SessionData {
    const changed = Object.create(
      Object.getPrototypeOf(session),
      Object.getOwnPropertyDescriptors(session),
    ) as SessionData
    putCopy(changed, this.#key, value)
    return changed
  }
}

/** Returns the newer one of two copies; the first one if the second is not of the same session of the same grant. */
function newer(held: HeldCopy, other: HeldCopy | undefined): HeldCopy {
  return isNewerOfSame(other, held) ? other : held
}

/** Whether a copy is newer than another one of the same session of the same grant. */
export function isNewerOfSame<T extends HeldCopy>(copy: T | undefined, other: HeldCopy): copy is T {
  const isOfSame = other.of !== undefined && isSameSession(other.of, copy?.of)
  return isOfSame && copy!.of!.revision > other.of!.revision
}

/** Names the session of a token set and its revision, so that its tokens are not held in memory. */
export function revisionOf({ grantId, share }: GrantSession, revision: number): Revision {
  return { __proto__: null, grantId, ...(share !== undefined && { share }), revision } as Revision
}

/** Whether both name the same session of the same grant. */
export function isSameSession<T extends GrantSession>(of: GrantSession, other: T | undefined): other is T {
  return of.grantId === other?.grantId && of.share === other.share
}

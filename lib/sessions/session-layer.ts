import type { TokenSetCodec } from './codec/token-set-codec.js'
import type { SessionAdapter, SessionHome } from './session-adapter.js'
import type { GrantSession, SessionGrants } from './session-grants.js'

/** One kind of session layer, under one session key. */
export interface SessionLayer<Request> {
  /**
   * Returns the adapter of a request's session. Called on every request, so it does no I/O and reads a property or two. Returns a
   * promise only where a function of the app finds the session.
   */
  of(request: Request): SessionAdapter | Promise<SessionAdapter>
  /**
   * Returns where the session with an id is stored, for code without a request. `of` names the session of a grant that is stored
   * there. Returns `undefined` until this process has served a request, and if its requests have several stores. A layer that
   * keeps no sessions in stores lacks this method.
   */
  homeOf?(sid: string, of: GrantSession): SessionHome | undefined
  /** Stops changing the sessions that the app saves. */
  close(): void
}

/** The parts and options of the middleware from which a function such as `expressSessions()` makes its session layer. */
export interface SessionLayerContext {
  /** The key of a session under which its copy is. */
  readonly key: string
  /** Names the client and the format of the copies. Copies of another audience cannot be under the same key. */
  readonly audience: string
  readonly codec: TokenSetCodec
  readonly grants: SessionGrants
  /** Whether only this library can read the copies, so that they may leave the server. */
  readonly isSealed: boolean
  /** Whether copies that are not sealed count as well. They must not have left the server. */
  readonly acceptsUnsealed?: boolean
}

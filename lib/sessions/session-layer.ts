import type { CopyKeeper } from './copy-keeper.js'
import type { SessionAdapter } from './session-adapter.js'

/** One kind of session layer, under one session key. */
export interface SessionLayer<Request> {
  /**
   * The adapter of a request's session. Called on every request: no I/O, nothing read but a property or two. A promise only
   * where the app finds its sessions by itself.
   */
  of(request: Request): SessionAdapter | Promise<SessionAdapter>
  /** Leaves the sessions to themselves. */
  close(): void
}

/** What a session layer is made with. */
export interface SessionLayerContext {
  /** Under which key of a session the copy is. */
  readonly key: string
  /** Whose copies they are, and of which format: those of another audience cannot be under the same key. */
  readonly audience: string
  readonly keeper: CopyKeeper
  /** Whether copies can be read by nobody else, so that they may leave the server. */
  readonly isSealed: boolean
  /** Whether copies that are not sealed count as well. They must not have left the server. */
  readonly acceptsUnsealed?: boolean
}

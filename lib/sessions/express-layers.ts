import { ExpressSessions, type SessionRequest } from './express-session.js'
import type { SessionLayer, SessionLayerContext } from './session-layer.js'

/** The session layers of Express apps, each found by what it puts on a request. */
export function expressSessions(context: SessionLayerContext): SessionLayer<SessionRequest> {
  return new ExpressSessions(context)
}

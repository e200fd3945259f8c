import { ConfigurationError } from '../../errors/token-error.js'
import { cookieMaxAgeMs } from '../session-lifetime.js'
import type { StoredSessionFace } from '../store/stored-session-adapter.js'
import { type KoaContext, type KoaSession, keyOf, storableNow } from './koa-context.js'
import { type KoaStore, patchedKoaStore } from './koa-store.js'

/** Sessions of koa-session in an external store. */
export const koaSessionFace: StoredSessionFace<KoaContext> = {
  patched: (store) => patchedKoaStore(store as KoaStore).patched,
  sid: keyOf,
  baselineHolder: (ctx) => ctx,
  isNew: (session) => (session as KoaSession).isNew,
  maxAgeMs: (ctx) => cookieMaxAgeMs(ctx.sessionOptions),
  // koa-session stores the session once more when the request ends, and sets the cookie then.
  storable(ctx, sid, session) {
    const options = ctx.sessionOptions!
    const now = storableNow(session as KoaSession, options)
    return patchedKoaStore(options.store as KoaStore).sessionOf(ctx, sid, now)
  },
  requestForStore: (ctx) => ctx,
  async regenerate(ctx, fields) {
    const session = ctx.session!
    for (const name of Object.keys(session.toJSON())) if (!fields.includes(name)) delete session[name]
    await session.regenerate()
  },
  noSessionError: () =>
    new ConfigurationError(
      'This request has no session any more: it was destroyed earlier in this request, with ctx.session = null.',
    ),
}

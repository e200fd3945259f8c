import { ownValue } from '../own-properties.js'
import type { SessionData } from './session-store.js'

/** A session as it was when the request got it: from the store, or made anew. */
export interface LoadedSession {
  readonly sid: string | undefined
  /** What it held under the keys of those who watch the store. */
  readonly values: SessionData
  readonly isNew: boolean
}

/** Under which name a request has its {@link LoadedSession}. */
export const LOADED = Symbol('session as loaded')

/** Whatever a framework has for a request. */
export interface NotedRequest {
  [LOADED]?: LoadedSession
}

export interface LoadingRequest extends NotedRequest {
  session?: SessionData
  sessionID?: string
}

/** Whose session it is that is stored. */
export interface SessionOrigin {
  readonly req?: NotedRequest
  readonly id?: string
}

/** Under which name a session that is plain data has its {@link SessionOrigin}: `req` and `id` are the app's there. */
export const ORIGIN = Symbol('origin of a session')

/** Under which name a session that we have read has the request that we have read it for. */
export const READ_FOR = Symbol('request that a session was read for')

/** The request that a store is told with a session of plain data: whose session it is, or that we have read it for. */
export function requestOf(session: SessionData): NotedRequest | undefined {
  const noted: { [READ_FOR]?: NotedRequest; [ORIGIN]?: SessionOrigin } = session
  return noted[READ_FOR] ?? noted[ORIGIN]?.req
}

/** Notes what a request loads. Not the data itself: a store may hand out the same object to several requests. */
export function noteLoaded(
  request: NotedRequest,
  sid: string | undefined,
  data: SessionData,
  observers: Iterable<{ readonly key: string }>,
): void {
  const values: SessionData = {}
  for (const { key } of observers) values[key] = ownValue(data, key)
  request[LOADED] = { sid, values, isNew: false }
}

export function noteNew(request: LoadingRequest): void {
  request[LOADED] = { sid: request.sessionID, values: {}, isNew: true }
}

/** Notes what a request holds under a key that nobody had asked for when it loaded its session. */
export function noteLate(request: LoadingRequest, key: string): void {
  const { session, sessionID: sid, [LOADED]: loaded } = request
  if (!session || loaded?.isNew || (loaded && Object.hasOwn(loaded.values, key))) return
  if (!loaded && Object.keys(session).length <= 1) noteNew(request)
  else request[LOADED] = { sid, values: { ...loaded?.values, [key]: ownValue(session, key) }, isNew: false }
}

/** What a session was when its request got it; `undefined` for one that is written for no request. */
export function loadedSession(session: SessionData): LoadedSession | undefined {
  const { req, id } = (session as { [ORIGIN]?: SessionOrigin })[ORIGIN] ?? (session as SessionOrigin)
  if (!req) return undefined
  const loaded = req[LOADED]
  // A further session() over the same store makes its new sessions past the guard.
  return loaded && (id === undefined || loaded.sid === id) ? loaded : { sid: id, values: {}, isNew: true }
}

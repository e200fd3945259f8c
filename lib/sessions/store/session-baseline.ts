import { ownProperties, ownValue } from '../../options/own-properties.js'
import type { SessionData } from './original-store.js'

/** A session as it was when the request got it: loaded from the store, or new. */
export interface SessionBaseline {
  readonly sid: string | undefined
  /** Its values under the keys of the interceptors. */
  readonly values: SessionData
  readonly isNew: boolean
}

/** The property with the {@link SessionBaseline} of a request's session. */
export const BASELINE = Symbol('session as loaded')

/**
 * The object that a baseline is recorded on: the context of a request in Koa. In Express it is the session object, since a property
 * that is added to a request of Express makes all later uses of the request slower.
 */
export interface BaselineHolder {
  [BASELINE]?: SessionBaseline
}

/** The object that a framework has for a request. */
export type NotedRequest = BaselineHolder

/** A request whose session express-session loads. */
export interface LoadingRequest {
  session?: SessionData
  sessionID?: string
}

/** The request, and the id, of a session that is stored. */
export interface SessionOrigin {
  readonly req?: NotedRequest
  readonly id?: string
}

/** The property of plain data with its {@link SessionOrigin}. There, `req` and `id` are values of the app. */
export const ORIGIN = Symbol('origin of a session')

/** The property of a session that the library has read, with the request for which it was read. */
export const READ_FOR = Symbol('request that a session was read for')

/** Returns the request of a session that is plain data: the request that saves it, or for which the library has read it. */
export function requestOf(session: SessionData): NotedRequest | undefined {
  const noted: { [READ_FOR]?: NotedRequest; [ORIGIN]?: SessionOrigin } = session
  return noted[READ_FOR] ?? noted[ORIGIN]?.req
}

/**
 * Returns the baseline of a session that is loaded: its values under the keys of the interceptors. The data itself is not kept, as a
 * store may return the same object to several requests.
 */
export function baselineOfLoaded(
  sid: string | undefined,
  data: SessionData,
  interceptors: Iterable<{ readonly key: string }>,
): SessionBaseline {
  const values: SessionData = { __proto__: null } as never
  for (const { key } of interceptors) values[key] = Object.hasOwn(data, key) ? data[key] : undefined
  return { sid, values, isNew: false }
}

/** Returns the baseline of a session that has just been made. */
export function baselineOfNew(sid: string | undefined): SessionBaseline {
  return { sid, values: ownProperties({}), isNew: true }
}

/** Records a baseline, if the holder takes another property. It is not enumerable, so that it is no part of the session's data. */
export function recordBaseline(holder: BaselineHolder | null | undefined, baseline: SessionBaseline): void {
  if (holder)
    Reflect.defineProperty(holder, BASELINE, { value: baseline, configurable: true, writable: true })
}

/** A request of Express, or a context of Koa. */
export interface SessionCarrier {
  readonly session?: SessionData | null | undefined
}

/** How a framework identifies the session of a request. */
export interface SessionSource<Request extends SessionCarrier> {
  /** Returns the id under which the store has the session. */
  sid(request: Request): string | undefined
  /** Returns the object that the baseline of a request's session is recorded on, if the request has a session. */
  baselineHolder(request: Request): BaselineHolder | null | undefined
  /** Whether a session is new, where the library has not seen that it was loaded or made. */
  isNew(session: SessionData): boolean
}

/** Returns the baseline of a request's session, with the value under a key that no interceptor had when the session was loaded. */
export function lateBaseline<Request extends SessionCarrier>(
  source: SessionSource<Request>,
  request: Request,
  key: string,
): SessionBaseline | undefined {
  const { session } = request
  if (!session) return undefined
  const holder = source.baselineHolder(request)
  const loaded = holder?.[BASELINE]
  const values = ownProperties({ ...loaded?.values, [key]: ownValue(session, key) })
  const baseline = { sid: source.sid(request), values, isNew: !loaded && source.isNew(session) }
  recordBaseline(holder, baseline)
  return baseline
}

/** Makes a session count from now on as one that was loaded with this copy. */
export function recordCopy(
  holder: BaselineHolder | null | undefined,
  sid: string | undefined,
  key: string,
  copy: unknown,
): void {
  const values: SessionData = { __proto__: null as never, ...holder?.[BASELINE]?.values, [key]: copy }
  recordBaseline(holder, { sid, values, isNew: false })
}

/** Returns the session as its request got it; `undefined` for a session that is written outside of a request. */
export function baselineOf(session: SessionData): SessionBaseline | undefined {
  const origin: SessionOrigin | undefined = (session as { [ORIGIN]?: SessionOrigin })[ORIGIN]
  const { req, id } = origin ?? (session as SessionOrigin)
  if (!req) return undefined
  const loaded = (origin ? req : (session as BaselineHolder))[BASELINE]
  // Another session() over the same store may have made a new session that was not recorded.
  return loaded && (id === undefined || loaded.sid === id) ? loaded : baselineOfNew(id)
}

/** Whether both are the session of one request. */
export function isOfSameRequest(a: SessionData, b: SessionData): boolean {
  const request = requestIn(a)
  return request !== undefined && request === requestIn(b) && a.id === b.id
}

/** Whether a session is the one of a request, and no plain data. */
export function isOfRequest(session: SessionData): boolean {
  return requestIn(session) !== undefined
}

/** Returns the request that express-session hides in a session. In other sessions an app may keep a value under the same name. */
function requestIn(session: SessionData): unknown {
  const hidden = Object.getOwnPropertyDescriptor(session, 'req')
  return hidden?.enumerable === false ? hidden.value : undefined
}

import { ownProperties } from '../options/own-properties.js'
import type { AppSession } from './app-session.js'

/** The values that the login keeps in the app's session, under one key. */
export interface KeptInSession {
  /** The subject of the user who has logged in. */
  readonly sub?: string
  /** The claims that `GET /session` shows. */
  readonly user?: Readonly<Record<string, unknown>>
  /** The hash of the ID token with which userinfo was fetched. */
  readonly userinfoOf?: string
  readonly notes?: Readonly<Record<string, unknown>>
}

export function keptIn(session: AppSession, key: string): KeptInSession {
  const data = session.data()
  const kept = Object.hasOwn(data, key) ? data[key] : undefined
  return ownProperties(typeof kept === 'object' && kept !== null ? kept : {})
}

/** Picks the claims, or the fields of a session, with these names. */
export function picked(from: object | undefined, names: readonly string[]): Record<string, unknown> {
  const all = (from ?? {}) as Record<string, unknown>
  return Object.fromEntries(names.filter((name) => Object.hasOwn(all, name)).map((name) => [name, all[name]]))
}

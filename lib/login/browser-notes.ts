import { createHash } from 'node:crypto'
import { parseJsonObject } from '../options/own-properties.js'
import type { Seal } from '../sessions/codec/sealing.js'
import type { AppSession } from './app-session.js'
import { cookieOf, cookiesOf } from './cookies.js'
import { keptIn } from './kept-in-session.js'
import type { LoginRequest } from './login-request.js'
import { MAX_TRANSACTIONS, REMEMBERED_MS } from './transaction.js'

/** A value that a browser is to bring back. */
export interface Note {
  /** Milliseconds since the epoch. */
  readonly beganAt: number
}

/** Keeps a few values for each browser, under names. */
export interface BrowserNotes {
  /** Reads a note; `undefined` without one. It may be older than {@link REMEMBERED_MS}. */
  read<T extends Note>(request: LoginRequest, name: string): T | undefined
  /**
   * Writes a note. If a browser then has more than {@link MAX_TRANSACTIONS} notes, or its cookies become too long, the oldest
   * notes are deleted.
   */
  write<T extends Note>(request: LoginRequest, name: string, note: T): Promise<void>
}

export interface CookieSettings {
  readonly seal: Seal
  /** Names the client. Notes of another client are left alone. */
  readonly audience: string
  /** Whether browsers reach the app by https. */
  readonly isSecure: boolean
  /** Whether a page of the authorization server sends the callback as a form, from its own site. */
  readonly isCrossSite: boolean
}

/**
 * How long all notes of a browser may be together. Many servers refuse a header line of more than 8 KB, and there are other
 * cookies.
 */
const MAX_BYTES = 6_000

/**
 * Keeps each note in a sealed cookie of its own, so that tabs that begin a login at the same moment do not overwrite one
 * another, and a visitor needs no session. The prefix `__Host-` keeps other hosts of the domain from setting the cookie.
 */
export function notesInCookies({ seal, audience, isSecure, isCrossSite }: CookieSettings): BrowserNotes {
  const tag = createHash('sha256').update(audience).digest('base64url').slice(0, 6)
  const prefix = `${isSecure ? '__Host-' : ''}login-${tag}-`
  const attributes = `Path=/; HttpOnly; SameSite=${isCrossSite ? 'None' : 'Lax'}${isSecure || isCrossSite ? '; Secure' : ''}`
  const open = (sealed: string | undefined) =>
    sealed === undefined ? undefined : (parseJsonObject(seal.open(sealed) ?? '') as Note | undefined)

  return {
    read<T extends Note>({ message }: LoginRequest, name: string) {
      const note = open(cookieOf(message.headers.cookie, prefix + name)) as
        | (T & { name?: string })
        | undefined
      // A note is of no use under another name.
      return note?.name === name ? note : undefined
    },
    async write({ message, response }, name, note) {
      const others = cookiesOf(message.headers.cookie, prefix)
        .filter((cookie) => cookie.name !== prefix + name)
        .map((cookie) => ({ ...cookie, beganAt: open(cookie.value)?.beganAt ?? 0 }))
        .sort((a, b) => b.beganAt - a.beganAt)
      const value = seal.seal(JSON.stringify({ ...note, name }))
      let bytes = value.length
      const superfluous = others.filter((cookie, index) => {
        bytes += cookie.value.length
        const isTooMany = index >= MAX_TRANSACTIONS - 1 || bytes > MAX_BYTES
        return isTooMany || Date.now() - cookie.beganAt > REMEMBERED_MS
      })
      for (const { name: old } of superfluous) {
        response.appendHeader('set-cookie', `${old}=; ${attributes}; Max-Age=0`)
      }
      response.appendHeader(
        'set-cookie',
        `${prefix}${name}=${value}; ${attributes}; Max-Age=${REMEMBERED_MS / 1000}`,
      )
    },
  }
}

/** Keeps the notes in the app's session. They are sealed if there is a key to seal with. */
export function notesInSession(
  sessionOf: (request: LoginRequest) => AppSession,
  sessionKey: string,
  seal: Seal | undefined,
): BrowserNotes {
  const open = (value: unknown): Note | undefined => {
    if (!seal) return typeof value === 'object' && value !== null ? (value as Note) : undefined
    return typeof value === 'string'
      ? (parseJsonObject(seal.open(value) ?? '') as Note | undefined)
      : undefined
  }
  return {
    read<T extends Note>(request: LoginRequest, name: string) {
      const { notes = {} } = keptIn(sessionOf(request), sessionKey)
      return open(Object.hasOwn(notes, name) ? notes[name] : undefined) as T | undefined
    },
    async write(request, name, note) {
      const session = sessionOf(request)
      session.checkKeeps(seal !== undefined)
      const kept = keptIn(session, sessionKey)
      const others = Object.entries(kept.notes ?? {})
        .map(([name, value]) => ({ name, value, beganAt: open(value)?.beganAt ?? 0 }))
        .filter((other) => other.name !== name && Date.now() - other.beganAt <= REMEMBERED_MS)
        .sort((a, b) => b.beganAt - a.beganAt)
        .slice(0, MAX_TRANSACTIONS - 1)
      const entries = others.map(({ name, value }): [string, unknown] => [name, value])
      const value = seal ? seal.seal(JSON.stringify(note)) : note
      await session.put(sessionKey, { ...kept, notes: Object.fromEntries([...entries, [name, value]]) })
    },
  }
}

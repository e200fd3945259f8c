import { createHash } from 'node:crypto'

/** One request to the token endpoint or the revocation endpoint, and its response. */
export interface TokenRow {
  readonly kind: 'token'
  readonly id: number
  /** Milliseconds since the epoch. */
  readonly at: number
  /** The grant type, or `revocation`. */
  readonly request: string
  readonly status: number
  readonly error?: string
  /** Fingerprints: the token that was presented, and those that were issued. */
  readonly presented?: string
  readonly accessToken?: string
  readonly refreshToken?: string
  /** How long the access token lives, in seconds. */
  readonly expiresIn?: number
}

/** Calls of the API; calls in quick succession are one row. */
export interface ApiRow {
  readonly kind: 'api'
  readonly id: number
  /** Milliseconds since the epoch. */
  readonly at: number
  readonly answered: number
  readonly refused: number
  /** How many refreshes there were since the calls of the previous row. */
  readonly refreshes: number
  /** The fingerprints of the access tokens of the calls. */
  readonly accessTokens: readonly string[]
}

export type Row = TokenRow | ApiRow
type Listener = (row: Row) => void

/** The events of the demo, in order. It holds fingerprints only and no tokens. */
export interface Timeline {
  readonly rows: readonly Row[]
  token(row: Omit<TokenRow, 'kind' | 'id' | 'at'>): void
  call(accepted: boolean, accessToken: string): void
  /** Calls the listener with each row that is new or has changed, until the function returned is called. */
  follow(listener: Listener): () => void
}

/** Calls that are further apart than this are separate rows. */
const APART_MS = 1_000

export function timeline(): Timeline {
  const rows: Row[] = []
  const listeners = new Set<Listener>()
  let lastCallAt = 0

  function put(row: Row): void {
    rows[row.id] = row
    for (const listener of listeners) listener(row)
  }

  function openRow(at: number): ApiRow {
    const last = rows.at(-1)
    if (last?.kind === 'api' && at - lastCallAt < APART_MS) return last
    const since = rows.slice(rows.findLastIndex(({ kind }) => kind === 'api') + 1)
    const refreshes = since.filter(isRefresh).length
    return { kind: 'api', id: rows.length, at, answered: 0, refused: 0, refreshes, accessTokens: [] }
  }

  return {
    rows,
    token: (row) => put({ kind: 'token', id: rows.length, at: Date.now(), ...row }),
    call(accepted, accessToken) {
      const row = openRow(Date.now())
      lastCallAt = Date.now()
      put({
        ...row,
        answered: row.answered + (accepted ? 1 : 0),
        refused: row.refused + (accepted ? 0 : 1),
        accessTokens: [...new Set([...row.accessTokens, fingerprint(accessToken)])],
      })
    },
    follow(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
  }
}

/** Whether a row is a refresh that the authorization server granted. */
export function isRefresh(row: Row): boolean {
  return row.kind === 'token' && row.request === 'refresh_token' && row.status === 200
}

/** Makes a name for a token that does not show it: the first six hexadecimal digits of its SHA-256. */
export function fingerprint(token: string): string {
  return createHash('sha256').update(token).digest('hex').slice(0, 6)
}

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
  /** The login that the tokens belong to: the fingerprint of its first refresh token. */
  readonly login?: string
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
  /** The login that the access tokens belong to. */
  readonly login?: string
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
  token(row: Omit<TokenRow, 'kind' | 'id' | 'at' | 'login'>): void
  call(accepted: boolean, accessToken: string): void
  /** Calls the listener with each row that is new or has changed, until the function returned is called. */
  follow(listener: Listener): () => void
}

/** Calls that are further apart than this are separate rows. */
const APART_MS = 1_000

export function timeline(): Timeline {
  const rows: Row[] = []
  const listeners = new Set<Listener>()
  /** The login of each token, by the fingerprint of the token. */
  const logins = new Map<string, string>()
  /** When each login last called the API. */
  const lastCalls = new Map<string | undefined, number>()

  function put(row: Row): void {
    rows[row.id] = row
    for (const listener of listeners) listener(row)
  }

  function openRow(login: string | undefined, at: number): ApiRow {
    const own = rows.filter((row) => row.login === login)
    const last = own.at(-1)
    if (last?.kind === 'api' && at - lastCalls.get(login)! < APART_MS) return last
    const since = own.slice(own.findLastIndex(({ kind }) => kind === 'api') + 1)
    const refreshes = since.filter(isRefresh).length
    return {
      kind: 'api',
      id: rows.length,
      at,
      ...of(login),
      answered: 0,
      refused: 0,
      refreshes,
      accessTokens: [],
    }
  }

  return {
    rows,
    token(row) {
      const login = logins.get(row.presented ?? '') ?? row.refreshToken
      for (const token of [row.accessToken, row.refreshToken]) if (token && login) logins.set(token, login)
      put({ kind: 'token', id: rows.length, at: Date.now(), ...of(login), ...row })
    },
    call(accepted, accessToken) {
      const token = fingerprint(accessToken)
      const login = logins.get(token)
      const row = openRow(login, Date.now())
      lastCalls.set(login, Date.now())
      put({
        ...row,
        answered: row.answered + (accepted ? 1 : 0),
        refused: row.refused + (accepted ? 0 : 1),
        accessTokens: [...new Set([...row.accessTokens, token])],
      })
    },
    follow(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
  }
}

function of(login: string | undefined): { login?: string } {
  return login === undefined ? {} : { login }
}

/** Whether a row is a refresh that the authorization server granted. */
export function isRefresh(row: Row): boolean {
  return row.kind === 'token' && row.request === 'refresh_token' && row.status === 200
}

/** Makes a name for a token that does not show it: the first six hexadecimal digits of its SHA-256. */
export function fingerprint(token: string): string {
  return createHash('sha256').update(token).digest('hex').slice(0, 6)
}

import { setTimeout as delay } from 'node:timers/promises'
import { createClient } from 'redis'
import type { ReadStoredTokens } from './stored-tokens.js'

const MAX_TRIES = 100
const RETRY_MS = 100

/** A stored session. */
export interface StoredSession {
  readonly written: number | undefined
  readonly grantId: string | undefined
  readonly refreshToken: string | undefined
}

/** Reads the site's sessions directly from their store. */
export class StoredSessions {
  readonly #client: ReturnType<typeof createClient>
  readonly #readTokens: ReadStoredTokens

  constructor(url: string, readTokens: ReadStoredTokens) {
    this.#readTokens = readTokens
    this.#client = createClient({ url })
    this.#client.on('error', () => {})
  }

  async open(): Promise<void> {
    await this.#client.connect()
  }

  /** The session that a cookie names; `undefined` if there is none. */
  async read(cookie: string): Promise<StoredSession | undefined> {
    const text = await this.#get(`sess:${sessionIdOf(cookie)}`)
    if (text === null) return undefined
    const session = JSON.parse(text) as { written?: number; tokens?: unknown }
    const copy = this.#readTokens(session.tokens)
    return { written: session.written, grantId: copy?.grantId, refreshToken: copy?.refreshToken }
  }

  /** Redis may be down for a time. */
  async #get(key: string): Promise<string | null> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#client.get(key)
      } catch (error) {
        if (tries === MAX_TRIES) throw error
        await delay(RETRY_MS)
      }
    }
  }

  close(): void {
    this.#client.destroy()
  }
}

function sessionIdOf(cookie: string): string {
  return /^connect\.sid=s:(.+)\.[^.]+$/.exec(decodeURIComponent(cookie))?.[1] ?? ''
}

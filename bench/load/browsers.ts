import { Agent } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { type Client, logIn, repeat, send } from '../harness/load.js'
import type { SiteResponse } from './site.js'

/** One user with a session. */
export interface Browser {
  readonly client: Client
  /** The last token that it got, and when that expires, in milliseconds since the epoch. */
  token: string
  expiresAt: number
  isAsking: boolean
}

/** What one request for a token brought. */
export interface Asked {
  readonly status: number
  readonly ms: number
  /** Whether the request waited for a token. */
  readonly waited: boolean
  /** The request failed, though the last token of the browser was valid until after the response. */
  readonly isWithheld: boolean
}

/** Users of one or more processes that serve the same sessions. Each request goes to any of the processes. */
export class Browsers {
  readonly all: Browser[] = []
  readonly #agent = new Agent({ keepAlive: true, scheduling: 'fifo' })
  readonly #ports: readonly number[]

  constructor(ports: readonly number[]) {
    this.#ports = ports
  }

  /** Logs users in. Each requests its first token. */
  async logIn(count: number): Promise<void> {
    await repeat(count, 50, async () => {
      const client = this.#client()
      await logIn(client)
      const browser: Browser = { client, token: '', expiresAt: 0, isAsking: false }
      this.all.push(browser)
      await this.ask(browser)
    })
  }

  /** Requests a token. */
  async ask(browser: Browser): Promise<Asked> {
    browser.isAsking = true
    const { status, body, ms } = await send({ ...browser.client, ...this.#client() }, '/token')
    browser.isAsking = false
    const { token, expiresAt, waited = true } = JSON.parse(body) as SiteResponse
    const isWithheld = status !== 200 && Date.now() < browser.expiresAt
    if (status === 200) Object.assign(browser, { token, expiresAt })
    return { status, ms, waited, isWithheld }
  }

  /** Has browsers ask once each, so many at a time. */
  async askAll(parallel: number, browsers: readonly Browser[]): Promise<Asked[]> {
    const left = browsers.values()
    const asked: Asked[] = []
    await repeat(browsers.length, parallel, async () => {
      asked.push(await this.ask(left.next().value!))
    })
    return asked
  }

  /**
   * Has each browser ask once in every `everyMs`, spread evenly, for `forMs`. A browser that still waits for a response does not
   * ask. Resolves when all requests have ended.
   */
  async constantLoad(forMs: number, everyMs: number): Promise<Asked[]> {
    const startedAt = performance.now()
    const spacingMs = everyMs / this.all.length
    const asked: Promise<Asked>[] = []
    for (let turn = 0; turn * spacingMs < forMs; turn++) {
      const waitMs = startedAt + turn * spacingMs - performance.now()
      if (waitMs > 1) await delay(waitMs)
      const browser = this.all[turn % this.all.length]!
      if (!browser.isAsking) asked.push(this.ask(browser))
    }
    return Promise.all(asked)
  }

  close(): void {
    this.#agent.destroy()
  }

  #client(): Client {
    const port = this.#ports[Math.floor(Math.random() * this.#ports.length)]!
    return { port, agent: this.#agent }
  }
}

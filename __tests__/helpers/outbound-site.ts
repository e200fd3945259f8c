import { inspect } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, expect } from '@jest/globals'
import type { ErrorRequestHandler } from 'express'
import { requireTokens, type SessionTokens, type UserPolicy } from '../../lib/index.js'
import { type AuthorizationServer, startAuthorizationServer } from './authorization-server.js'
import type { Browser } from './browser.js'
import { type Site, startSite } from './site.js'
import { json, type WireHandler, type WireServer, wireServer } from './wire-server.js'

export const HOUR_MS = 3_600_000

/** What the handlers of a site do, in front of an authorization server and an API. One of each for every test. */
export class OutboundSite {
  server!: AuthorizationServer
  api!: WireServer
  site!: Site
  /** A browser whose user has logged in. */
  browser!: Browser
  /** What the API answers to a request whose token it takes. */
  answer!: WireHandler
  /** Which tokens it takes; without one it is asked for an empty text. */
  accepted!: (token: string) => boolean
  /** What it answers to the others. */
  refused!: WireHandler
  #refreshesBefore = 0
  #routes = 0

  /** Registers what has to be done around tests. To be called in a test file or a `describe()`. */
  constructor() {
    beforeAll(async () => {
      this.server = await startAuthorizationServer()
      this.api = await wireServer((request, response) => {
        const [, token = ''] = /^Bearer (.+)$/.exec(request.headers.authorization ?? '') ?? []
        return this.accepted(token) ? this.answer(request, response) : this.refused(request, response)
      })
    })
    beforeEach(async () => {
      this.answer = (_request, response) => json(response, { orders: [] })
      this.accepted = () => true
      this.refuseWith('Bearer error="invalid_token"')
      this.api.requests.length = 0
      this.site = await startSite(this.server)
      this.browser = this.site.browser()
      await this.site.login(this.browser)
      this.#refreshesBefore = this.server.refreshes()
    })
    afterEach(() => this.site.close())
    afterAll(async () => {
      await this.api.close()
      await this.server.close()
    })
  }

  /** What the API answers to the tokens that it does not take. */
  refuseWith(challenge: string, status = 401): void {
    this.refused = (_request, response) =>
      json(response, { why: 'token' }, status, challenge === '' ? {} : { 'www-authenticate': challenge })
  }

  /** The API refuses the session's present token and takes every other one. Resolves with the present one. */
  async refuseThePresentToken(): Promise<string> {
    const present = await this.sessionToken()
    this.accepted = (token) => token !== '' && token !== present
    return present
  }

  /** Runs in a handler of the site, for the browser's session. */
  async inRequest<T>(work: (tokens: SessionTokens) => Promise<T>): Promise<T> {
    let outcome: Promise<T> | undefined
    this.site.handle('/call', async (request) => {
      outcome = (async () => work(request.tokens))()
      await outcome.catch(() => {})
    })
    expect((await this.browser.get('/call')).status).toBe(200)
    return outcome!
  }

  /** Runs in a handler behind `requireTokens({ user })`. Rejects with what the guard has rejected with. */
  async inRoute<T>(user: UserPolicy, work: (tokens: SessionTokens) => Promise<T>): Promise<T> {
    const path = `/route/${this.#routes++}`
    const outcome = new Promise<T>((resolve, reject) => {
      this.site.app.get(path, requireTokens({ user }), (request, response) => {
        const working = work(request.tokens)
        working.then(resolve, reject).finally(() => response.end())
      })
      const failed: ErrorRequestHandler = (error, _request, response, _next) => {
        reject(error)
        response.end()
      }
      this.site.app.use(path, failed)
    })
    await Promise.all([this.browser.get(path), outcome.catch(() => {})])
    return outcome
  }

  sessionToken = async (): Promise<string> =>
    (await this.site.storedTokens(this.browser))!.accessTokens[0]!.token
  /** The Authorization headers that the API has seen. */
  authorizations = () => this.api.requests.map(({ headers }) => headers.authorization)
  /** How many refreshes there were in this test. */
  refreshes = () => this.server.refreshes() - this.#refreshesBefore

  /** Where a logger would show one of the tokens that were sent. */
  leaks(value: unknown): string[] {
    const text = [
      inspect(value, { depth: 20, showHidden: true, maxStringLength: null, maxArrayLength: null }),
      value instanceof Error ? `${value}\n${value.stack}\n${JSON.stringify(value)}` : '',
    ].join('\n')
    const tokens = this.authorizations().flatMap((header) => header?.replace('Bearer ', '') ?? [])
    expect(tokens.length).toBeGreaterThan(0)
    return tokens.flatMap((token) => {
      const at = text.indexOf(token)
      return at === -1 ? [] : [text.slice(Math.max(0, at - 60), at)]
    })
  }
}

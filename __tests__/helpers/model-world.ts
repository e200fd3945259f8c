import type { TokenEvent } from '../../lib/tokens/events.js'
import { grantIdOf, proofOf } from '../../lib/tokens/grant-proof.js'
import { testClock } from './clock.js'
import {
  grantNameOf,
  ModelAuthorizationServer,
  type ModelGrant,
  type RefreshFault,
  type Step,
} from './model-authorization-server.js'
import { ModelHistory, type Visit } from './model-history.js'
import { ModelDisk, ModelSessionStore } from './model-session-store.js'
import { AUDIENCE, type ModelRequest, modelSite } from './model-site.js'

const LONGER_THAN_ANY_REST_MS = 61_000

/** What a handler does, one after another. */
export type Action =
  | 'token'
  | 'refuse the token'
  | 'pause'
  | 'time passes'
  | 'write'
  | 'save'
  | 'reload'
  | 'regenerate'
  | 'revoke'
  | 'clear'
  | 'destroy'
  | 'log in'
  | 'log in as another'

export interface Command {
  readonly browser: number
  readonly actions: readonly Action[]
}

export interface WorldOptions {
  readonly step: Step
  readonly resave: boolean
  readonly touchWrites: boolean
  readonly refreshFaults: readonly RefreshFault[]
  readonly storeFaults: readonly boolean[]
}

const READ_ONLY: readonly Action[] = ['token', 'refuse the token', 'pause', 'time passes']

/** Browsers, a site that may be restarted, its sessions and an authorization server, and what must hold of them. */
export class ModelWorld {
  readonly history = new ModelHistory()
  readonly server: ModelAuthorizationServer
  readonly disk = new ModelDisk()
  readonly events: TokenEvent[] = []
  readonly #options: WorldOptions
  readonly #clock = testClock()
  readonly #storeFaults: boolean[] = []
  readonly #cookies = new Map<number, string>()
  readonly #sids = new Map<number, string>()
  readonly #grants = new Map<string, ModelGrant>()
  #store!: ModelSessionStore
  #site!: ReturnType<typeof modelSite>
  #sessions = 0
  #writes = 0

  constructor(options: WorldOptions) {
    this.#options = options
    this.server = new ModelAuthorizationServer(options.step, () => this.history.moment())
    this.restart()
  }

  get violations(): string[] {
    return [...this.server.violations, ...this.disk.violations, ...this.history.violations]
  }

  /** Whether a logout was told that the session store failed: another process may still find the tokens. */
  get logoutFailed(): boolean {
    return this.history.logouts.some(({ failed }) => failed)
  }

  /** Another process takes over; it knows what is on the disk. */
  restart(): void {
    const { step, resave, touchWrites } = this.#options
    this.#store = new ModelSessionStore(this.disk, step, { faults: this.#storeFaults, touchWrites })
    this.#site = modelSite({
      server: this.server,
      store: this.#store,
      clock: this.#clock,
      resave,
      genid: () => `s${++this.#sessions}`,
      onEvent: (event) => this.events.push(event),
    })
  }

  /** From now on the faults come up that were planned. */
  beginFaults(): void {
    this.server.faults.push(...this.#options.refreshFaults)
    this.#storeFaults.push(...this.#options.storeFaults)
  }

  endFaults(): void {
    this.server.faults.splice(0)
    this.#storeFaults.splice(0)
  }

  /** A request of a browser, from beginning to end. */
  async serve({ browser, actions }: Command): Promise<void> {
    await this.#options.step(`browser ${browser} sends a request`)
    const visit = this.history.visit(browser)
    let of: ModelRequest | undefined
    let newSession = false
    const cookie = await this.#site.serve(this.#cookies.get(browser), async (request) => {
      of = request
      visit.found = request.session.tokens !== undefined || this.disk.sessions.has(request.sessionID)
      for (const action of actions) {
        await this.#options.step(`browser ${browser}: ${action}`)
        newSession = (await this.#act(action, visit, request)) || newSession
      }
    })
    // A request whose session was gone gets a new one. It is not what the browser goes on with, unless it logged in.
    if (cookie !== undefined && newSession) {
      this.#cookies.set(browser, cookie)
      this.#sids.set(browser, of!.sessionID)
    }
    visit.ended = this.history.moment()
    const saves = this.#store.appSaves.filter((saved) => saved.req === of).length
    if (!this.#options.resave && saves > 0 && actions.every((action) => READ_ONLY.includes(action))) {
      this.history.violations.push('I3: a request that wrote nothing saved its session')
    }
  }

  /** Does one thing of a handler. Resolves with `true` if the browser must go on with the session of this request. */
  async #act(action: Action, visit: Visit, request: ModelRequest): Promise<boolean> {
    if (action === 'pause') return false
    if (action === 'time passes') {
      this.#clock.jump(3_600_000)
      return false
    }
    if (!request.session) return false
    switch (action) {
      case 'token':
        await this.#token(visit, request)
        return false
      case 'refuse the token': {
        const rejected = await this.#token(visit, request)
        if (rejected !== undefined) await this.#token(visit, request, rejected)
        return false
      }
      case 'write':
        request.session.written = ++this.#writes
        return false
      case 'save':
        await finished((done) => request.session.save(done))
        return false
      case 'reload':
        await finished((done) => request.session.reload(done))
        return false
      case 'regenerate':
        await this.#regenerate(visit, request)
        return visit.found
      case 'log in':
        await this.#login(visit, request, `user${visit.browser}`)
        return true
      case 'log in as another':
        await this.#login(visit, request, `other${visit.browser}`)
        return true
      default:
        await this.#logout(action, visit, request)
        return false
    }
  }

  async #token(visit: Visit, request: ModelRequest, rejected?: string): Promise<string | undefined> {
    const need = rejected === undefined ? {} : { rejected }
    return this.history.token(this.server, visit, () => request.tokens.getAccessToken(need)).catch(expected)
  }

  async #regenerate(visit: Visit, request: ModelRequest): Promise<void> {
    visit.regenerated = true
    visit.carriedNothing = request.session.tokens === undefined
    const { cookie: _, ...data } = request.session
    await finished((done) => request.session.regenerate(done))
    Object.assign(request.session, data)
  }

  async #login(visit: Visit, request: ModelRequest, user: string): Promise<void> {
    const previous = this.#grantOf(request.session)
    const { grant, response } = this.server.login(user)
    const login = this.history.login(visit, grant, request.sessionID)
    const proof = proofOf(AUDIENCE, response.refresh_token, 0)
    this.#grants.set(grantIdOf(proof), grant)
    try {
      await request.tokens.set(response)
      if (!this.history.mayHaveMoved(visit)) this.history.died(previous, 'login')
    } catch (error) {
      expected(error)
      login.failed = true
    }
    login.ended = this.history.moment()
  }

  async #logout(kind: 'revoke' | 'clear' | 'destroy', visit: Visit, request: ModelRequest): Promise<void> {
    const logout = this.history.logout(visit, kind)
    const held = this.#grantOf(request.session)
    const stored = this.#grantOf(this.disk.peek(request.sessionID))
    if (kind !== 'destroy') this.history.died(held, kind, { at: logout.began })
    try {
      if (kind === 'destroy') await finished((done) => request.session.destroy(done))
      else await request.tokens[kind]()
      if (kind === 'revoke' && held && !held.ended)
        this.history.violations.push(`I4: ${held.name} was not revoked`)
    } catch (error) {
      expected(error)
      logout.failed = true
    }
    logout.ended = this.history.moment()
    if (kind === 'destroy' && !this.history.mayHaveMoved(visit)) this.history.died(stored, kind)
  }

  #grantOf(session: { tokens?: string } | undefined): ModelGrant | undefined {
    return this.#grants.get(grantIdIn(session))
  }

  /** What must hold of the disk and of the authorization server when nothing is under way. */
  checkAtRest(): void {
    this.disk.check('at rest')
    const { violations, deaths, visits } = this.history
    for (const visit of visits) {
      if (visit.ended === Number.POSITIVE_INFINITY)
        violations.push(`a request of browser ${visit.browser} never ended`)
    }
    for (const sid of this.disk.sessions.keys()) {
      const grant = this.#grantOf(this.disk.peek(sid))
      const death = grant && deaths.get(grant)
      if (death && !this.logoutFailed && this.#mayBeRead(sid)) {
        violations.push(`I4: ${sid} holds ${grant.name}, which ended by ${death.by}`)
      }
    }
    for (const { grant, refreshToken, at } of this.server.deliveries) {
      const death = deaths.get(grant)
      if (death && death.by !== 'login' && death.at < at && !this.server.revocations.includes(refreshToken)) {
        violations.push(`I4: ${refreshToken} arrived after ${death.by} and was not revoked`)
      }
    }
    for (const token of this.server.revocations) {
      const grant = this.server.grants.get(grantNameOf(token))!
      if (!this.history.mayHaveEnded(grant)) violations.push(`${token} was revoked, though nobody logged out`)
    }
  }

  /** Whether a session is the one of a browser. */
  #mayBeRead(sid: string): boolean {
    return [...this.#sids.values()].includes(sid)
  }

  /** The next request of a browser: whether it finds the newest tokens, and whether they can be refreshed if asked. */
  async checkNextRequest(browser: number, { refresh }: { refresh: boolean }): Promise<void> {
    const cookie = this.#cookies.get(browser)
    if (cookie === undefined) return
    const { history, server } = this
    // A grant whose refresh failed, or whose tokens were refused one after the other, rests for a while.
    this.#clock.advance(LONGER_THAN_ANY_REST_MS)
    const visit = history.visit(browser)
    await this.#site.serve(cookie, async (request) => {
      const first = await this.#token(visit, request)
      const newest = first === undefined ? 0 : server.grants.get(grantNameOf(first))!.delivered
      const last = refresh && first !== undefined ? await this.#token(visit, request, first) : first
      const grant = first === undefined ? undefined : server.grants.get(grantNameOf(first))
      if (grant && !history.possibleGrants(browser).has(grant)) {
        history.violations.push(`I4: browser ${browser} was given ${first}, and had logged in again since`)
      }
      if (first !== undefined && first !== `at.${grant!.name}.${newest}`) {
        history.violations.push(`I2: browser ${browser} was given ${first}, there are ${newest}`)
      }
      if (last === undefined && history.mustBeLoggedIn(browser) && this.disk.lost.size === 0) {
        const stored = request.session.tokens
        history.violations.push(`I2: browser ${browser} is logged out, with ${stored}`)
      }
    })
    visit.ended = history.moment()
  }
}

/** The grant that a session's copy is of; empty if it has none. */
function grantIdIn(session: { tokens?: string } | undefined): string {
  return session?.tokens === undefined ? '' : JSON.parse(session.tokens).grantId
}

function finished(operation: (done: (error?: unknown) => void) => unknown): Promise<void> {
  return new Promise((resolve) => operation(() => resolve()))
}

const EXPECTED = [
  'ERR_NO_TOKENS',
  'ERR_REAUTHENTICATION_REQUIRED',
  'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
  'ERR_SESSION_STORE',
]

/** Passes over the failures that the library is meant to report. */
function expected(error: unknown): undefined {
  if (!EXPECTED.includes((error as { code: string }).code)) throw error
}

import { setTimeout as delay } from 'node:timers/promises'
import { ask, type Outcome, type Request } from './browser.js'
import { hadExpired } from './judge.js'
import type { PlannedLogout, PlannedTokenRequest, PlannedWrite, SessionPlan, Step } from './plan.js'
import { END_WITHIN_MS, type Grant, type Incarnation, now } from './records.js'
import type { RunLog } from './run-log.js'
import type { RunningProcess, SiteProcesses } from './site-processes.js'
import type { StoredSession, StoredSessions } from './stored-sessions.js'
import type { Owner, TokenEndpoint } from './token-endpoint.js'

export interface SimulatedUserContext {
  readonly processes: SiteProcesses
  readonly endpoint: TokenEndpoint
  readonly stored: StoredSessions
  readonly log: RunLog
  /** Whether the sessions are out of reach when Redis is. */
  readonly sessionsMayFail: boolean
  /** Whether a part of the requests needs a token exchange. */
  readonly exchange: boolean
}

/** A token in a response, and the thumbprint of the key that it came with. */
interface Token {
  readonly token: string
  /** When the library handed it out. The response is on its way for some time. */
  readonly servedAt: number
  readonly jkt?: string
}

/** The need of a token exchange. */
export const EXCHANGE = { exchange: 'billing' }

/** The state of a browser when it sent a request: the response may not be older. */
interface Knowledge {
  readonly grant: Grant
  readonly at: number
  readonly serial: number
  readonly written: number
  readonly isJob: boolean
}

/** A response to a request for a token: its status, the token, and the serial number of its tokens, or the number of its exchange. */
export interface Received {
  readonly status: number | undefined
  readonly token?: string
  readonly serial?: number
}

/** A session after a logout, to be checked again at the end. */
export interface ClosedSession {
  readonly cookie: string
  readonly grant: Grant
}

/** Errors of a logout that succeeded here but not at the authorization server. */
const LOGGED_OUT_HERE = ['ERR_TOKEN_ENDPOINT_UNAVAILABLE', 'ERR_TOKEN_ENDPOINT', 'ERR_INVALID_TOKEN_RESPONSE']
/** How long the repair of a write race between a save and a logout may take. */
const REPAIRED_WITHIN_MS = 1_500
/** Errors that are allowed while a store or the server is out of reach. */
const TEMPORARY_ERRORS = [...LOGGED_OUT_HERE, 'ERR_GRANT_STORE', 'ERR_SESSION_STORE']

/** One browser with one session: it sends the planned requests and checks every response. */
export class SimulatedUser {
  readonly index: number
  readonly closed: ClosedSession[] = []
  cookie: string | undefined
  grant: Grant | undefined
  /** The newest value that the app has certainly written to the session. */
  written = 0
  readonly #context: SimulatedUserContext
  readonly #plan: SessionPlan
  /** The newest tokens of each login that a response has had. */
  readonly #serials = new Map<Grant, number>()
  #lastToken: string | undefined
  /** The token of an exchange that came last. */
  #lastExchanged: string | undefined
  /** A reference to the login, for jobs. */
  #reference: string | undefined
  #logins = 0
  #writes = 0
  #requests = 0

  constructor(index: number, plan: SessionPlan, context: SimulatedUserContext) {
    this.index = index
    this.#plan = plan
    this.#context = context
  }

  /** Whether the user is logged in, as far as the browser knows. */
  get loggedIn(): boolean {
    return this.grant !== undefined && !this.grant.lost && !this.grant.logout
  }

  get hasReference(): boolean {
    return this.#reference !== undefined
  }

  async run(): Promise<void> {
    for (const step of this.#plan.steps) {
      if (!this.loggedIn) await this.#login()
      await delay(step.thinkMs)
      await this.#do(step)
    }
  }

  async #do({ tokens, write, logout }: Step): Promise<void> {
    const writtenBefore = this.written
    if (logout) this.grant!.ending = true
    await Promise.all([
      ...tokens.map((planned) => this.#token(planned)),
      write && this.#write(write, logout !== undefined),
      logout && this.#logout(logout),
    ])
    if (logout) await this.#afterLogout(logout, writtenBefore)
  }

  async #login(): Promise<void> {
    const { endpoint, processes } = this.#context
    const previous = this.grant
    for (;;) {
      const { grant, response, dpopKey } = await endpoint.login(this.index, ++this.#logins)
      const process = await processes.serving(this.#plan.loginProcess(this.#logins))
      const outcome = await this.#send(process, `login ${grant.login}`, {
        method: 'POST',
        path: '/login',
        body: { ...response, dpopKey },
      })
      if (outcome.sessionCookie) this.cookie = outcome.sessionCookie
      if (outcome.status === 200) {
        grant.libraryId = outcome.json.grantId
        grant.loggedInAt = now()
        if (previous) previous.replacedAt = grant.loggedInAt
        this.grant = grant
        await this.#makeReference(process)
        return
      }
      this.#expectTemporaryError(outcome)
      await delay(100)
    }
  }

  async #makeReference(process: RunningProcess): Promise<void> {
    this.#reference = undefined
    const outcome = await this.#send(process, 'reference', { method: 'POST', path: '/reference' })
    if (outcome.status === 200) this.#reference = outcome.json.reference
    else this.#expectTemporaryError(outcome)
  }

  async #token(planned: PlannedTokenRequest): Promise<void> {
    const { process, delayMs, handlerMs, rejects, isJob, exchanges = false, abortAfterMs } = planned
    await delay(delayMs)
    const rejected = rejects ? this.#last(exchanges) : undefined
    const need = { ...(exchanges && EXCHANGE), ...(rejected !== undefined && { rejected }) }
    if (isJob && this.#reference !== undefined) {
      await this.askAsJob(await this.#context.processes.serving(process), need)
      return
    }
    const query = new URLSearchParams(need)
    if (handlerMs > 0) query.set('handlerMs', String(handlerMs))
    await this.askForToken(await this.#context.processes.serving(process), query, abortAfterMs)
  }

  #last(exchanges: boolean): string | undefined {
    return exchanges ? this.#lastExchanged : this.#lastToken
  }

  /** Asks for a token and checks the response. */
  async askForToken(
    process: RunningProcess,
    query = new URLSearchParams(),
    abortAfterMs?: number,
  ): Promise<Received> {
    const known = this.#knowledge()
    const what = this.#nameOfNeed(query)
    const path = `/token?${query}`
    const outcome = await this.#send(process, what, { method: 'GET', path, abortAfterMs })
    this.#checkWritten(known, outcome)
    return this.#received(known, process, outcome, query.has('exchange'))
  }

  /** Asks for a token as a job, and checks the response. */
  async askAsJob(process: RunningProcess, need: Readonly<Record<string, string>> = {}): Promise<Received> {
    const known = { ...this.#knowledge(), isJob: true }
    const body = { reference: this.#reference, ...need }
    this.#context.log.count('requests of jobs')
    const what = `${this.#nameOfNeed(new URLSearchParams(need))} for a job`
    const outcome = await this.#send(process, what, { method: 'POST', path: '/job', body })
    return this.#received(known, process, outcome, 'exchange' in need)
  }

  #nameOfNeed(need: URLSearchParams): string {
    const rejected = this.#context.endpoint.ownerOf(need.get('rejected') ?? '')
    return `${need.has('exchange') ? 'exchanged token' : 'token'}${rejected ? `, not ${nameOf(rejected)}` : ''}`
  }

  /** Checks a response to a request for a token. */
  #received(known: Knowledge, process: RunningProcess, outcome: Outcome, exchanges: boolean): Received {
    const { status, json } = outcome
    if (exchanges) this.#context.log.count('requests with an exchange')
    if (status === 200) {
      const serial = exchanges
        ? this.#checkExchanged(known, process, json)
        : this.#checkToken(known, process, json)
      return { status, token: json.token, ...(serial !== undefined && { serial }) }
    }
    if (status === 401) this.#loggedOut(known, process, outcome)
    else if (!(exchanges && isExchangeRefused(outcome, known, process))) this.#expectTemporaryError(outcome)
    return { status }
  }

  async #write({ process, handlerMs, asksForToken }: PlannedWrite, besideLogout: boolean): Promise<void> {
    const value = ++this.#writes
    const query = new URLSearchParams({ value: String(value), handlerMs: String(handlerMs) })
    if (asksForToken) query.set('asksForToken', '1')
    const known = this.#knowledge()
    const running = await this.#context.processes.serving(process)
    const outcome = await this.#send(running, `write ${value}`, { method: 'POST', path: `/write?${query}` })
    this.#checkWritten(known, outcome)
    if (outcome.status !== 200) return this.#expectTemporaryError(outcome)
    // A logout saves the session as well, as it was when the request came: then either may win.
    if (!besideLogout) this.written = value
    if (outcome.json.token !== undefined) this.#checkToken(known, running, outcome.json)
  }

  async #logout({ process, delayMs, kind }: PlannedLogout): Promise<void> {
    await delay(delayMs)
    const grant = this.grant!
    grant.logout = { kind, began: now(), failures: [] }
    for (let attempt = 0; ; attempt++) {
      const running = await this.#context.processes.serving(process + attempt)
      // The grant store may have lost the labels by which the logins of a user are found.
      const isByUser = kind === 'end' && grant.logout.failures.length === 0
      const path = isByUser ? `/end?sub=${encodeURIComponent(grant.sub)}` : `/logout?kind=${kind}`
      const outcome = await this.#send(running, `logout (${kind})`, { method: 'POST', path })
      const code = String(outcome.json?.code)
      const hasFound = !isByUser || outcome.json?.ended !== 0
      if ((outcome.status === 200 && hasFound) || LOGGED_OUT_HERE.includes(code)) break
      if (hasFound) this.#expectTemporaryError(outcome)
      grant.logout.failures.push(outcome.failure ?? code)
      await delay(100)
    }
    grant.logout.ended = now()
    this.#context.log.count(`logout: ${kind}`)
    // The session holds the tokens until its next request.
    if (kind === 'end') return
    await this.checkLoggedOut('right after the logout', { cookie: this.cookie!, grant })
  }

  async #afterLogout({ kind }: PlannedLogout, writtenBefore: number): Promise<void> {
    const session = { cookie: this.cookie!, grant: this.grant! }
    this.closed.push(session)
    if (kind === 'end') await this.#expectEnded(session)
    await this.checkLoggedOut('when all requests beside the logout had ended', session)
    const stored = await this.readStored(session.cookie)
    this.written = stored?.written ?? 0
    if (kind === 'destroy') {
      this.cookie = undefined
      this.written = 0
    } else if (this.written < writtenBefore) this.#lostData(this.written, writtenBefore, 'a logout')
  }

  /** After a logout no process gives tokens, and the stored session has none. */
  async checkLoggedOut(when: string, { cookie, grant }: ClosedSession): Promise<void> {
    const { processes, log } = this.#context
    const failures = grant.logout?.failures.length ? ` (it had failed first: ${grant.logout.failures})` : ''
    // After an end by the operator the session holds the tokens until its next request.
    if (grant.logout?.kind !== 'end' && (await this.#keepsTokens(cookie, grant))) {
      log.violation('I4', this.index, `${when} the stored session holds the tokens${failures}`)
    }
    if (cookie !== this.cookie || this.grant !== grant) return
    const paths = this.#context.exchange ? ['/token', `/token?${new URLSearchParams(EXCHANGE)}`] : ['/token']
    await Promise.all(
      processes.awake.flatMap((process) =>
        paths.map(async (path) => {
          const request: Request = { method: 'GET', path, cookie }
          const outcome = await this.#send(process, `${path.slice(1)}, ${when}`, request)
          if (outcome.status !== 200) return this.#expectTemporaryError(outcome, 401)
          log.violation('I4', this.index, `${when} ${process.incarnation.name} gave a token${failures}`)
        }),
      ),
    )
  }

  /** A second after the end of a login every process knows of it. */
  async #expectEnded({ grant }: ClosedSession): Promise<void> {
    const { processes } = this.#context
    await delay(END_WITHIN_MS)
    const known = this.#knowledge()
    const request: Request = { method: 'GET', path: '/token' }
    await Promise.all(
      processes.awake.map(async (process) => {
        const outcome = await this.#send(process, 'token, a second after the end', request)
        if (outcome.status === 200) grant.servedAfterEnd.push({ by: process.incarnation, at: known.at })
        else this.#expectTemporaryError(outcome, 401)
        if (this.#reference === undefined) return
        await this.askAsJob(process)
        if (this.#context.exchange) await this.askAsJob(process, EXCHANGE)
      }),
    )
  }

  /** Whether a stored session holds the tokens for longer than the repair of a write race may take. */
  async #keepsTokens(cookie: string, { libraryId }: Grant): Promise<boolean> {
    const deadline = Date.now() + REPAIRED_WITHIN_MS
    for (let held = false; ; held = true) {
      const stored = await this.readStored(cookie)
      if (stored?.grantId === undefined || stored.grantId !== libraryId) {
        if (held) this.#context.log.count('repaired: tokens in a session after a logout')
        return false
      }
      if (Date.now() > deadline) return true
      await delay(50)
    }
  }

  neverRecovered({ incarnation }: RunningProcess, status: number | undefined): void {
    const what = `in the end ${incarnation.name} goes on responding with ${status}`
    this.#context.log.violation('I6', this.index, what)
  }

  readStored(cookie: string): Promise<StoredSession | undefined> {
    return this.#context.stored.read(cookie)
  }

  #knowledge(): Knowledge {
    const grant = this.grant!
    return { grant, at: now(), serial: this.#serials.get(grant) ?? 0, written: this.written, isJob: false }
  }

  async #send(process: RunningProcess, what: string, request: Request): Promise<Outcome> {
    const { log } = this.#context
    const number = ++this.#requests
    const { name } = process.incarnation
    log.count('requests')
    log.note(`> ${number} ${name}: ${what}`, this.index)
    const began = now()
    const outcome = await ask(process, { cookie: this.cookie, ...request })
    log.slowest(now() - began, `request ${number} of session ${this.index}: ${what}`)
    log.note(`< ${number} ${name}: ${this.#described(outcome)}`, this.index)
    log.count(`response: ${outcome.json?.code ?? outcome.failure ?? outcome.status}`)
    return outcome
  }

  #described({ status, json, failure }: Outcome): string {
    if (failure !== undefined) return `no response: ${failure}`
    const { token, written, code, message } = json ?? {}
    const owner = this.#context.endpoint.ownerOf(token)
    const parts = [
      status,
      owner && `token ${nameOf(owner)}`,
      written !== undefined && `(written: ${written})`,
      code,
    ]
    return [...parts, status === 200 ? '' : message].filter(Boolean).join(' ')
  }

  /** Checks a token of an exchange. Resolves with the number of the exchange. */
  #checkExchanged(known: Knowledge, process: RunningProcess, json: Token): number | undefined {
    const owner = this.#ownerFor(known, process, json, true)
    if (!owner) return undefined
    const { number } = owner.exchange!
    if (hadExpired(owner.exchange!, known.at)) {
      const what = `${process.incarnation.name} served the token of exchange ${nameOf(owner)}, which had expired`
      this.#context.log.violation('I2', this.index, what)
    }
    const last = this.#context.endpoint.ownerOf(this.#lastExchanged ?? '')
    if (last?.grant !== known.grant || last.exchange!.number < number) this.#lastExchanged = json.token
    return number
  }

  /** The owner of a token in a response; `undefined` for a token that is not of the login, or not of the kind that was asked for. */
  #ownerFor(
    known: Knowledge,
    { incarnation }: RunningProcess,
    { token, jkt }: Token,
    isExchanged: boolean,
  ): Owner | undefined {
    const { grant } = known
    const owner = this.#context.endpoint.ownerOf(token)
    const say = (what: string) => this.#context.log.violation('I2', this.index, what)
    if (owner?.grant !== grant || (owner.exchange !== undefined) !== isExchanged) {
      say(`a request of login ${grant.login} got ${owner ? nameOf(owner) : 'an unknown token'}`)
      return undefined
    }
    const { logout } = grant
    // A logout may have removed the key by the time of the proof.
    if (jkt !== grant.jkt && !(jkt === 'none' && logout))
      say(
        `a token of login ${grant.login} came with ${jkt === 'none' ? 'no key' : 'the key of another login'}`,
      )
    if (logout?.ended !== undefined) this.#checkAfterLogout(known, incarnation, logout.ended)
    return owner
  }

  #checkToken(known: Knowledge, process: RunningProcess, json: Token): number | undefined {
    const owner = this.#ownerFor(known, process, json, false)
    if (!owner) return undefined
    const { incarnation } = process
    const { servedAt: at, token } = json
    const { serial } = owner.issue
    if (serial < known.serial) {
      const [began, newest] = [known.at, known.serial]
      const { isJob } = known
      known.grant.olderTokens.push({ by: incarnation, began, at, serial, newest, isJob })
    }
    if (serial > (this.#serials.get(known.grant) ?? 0)) {
      this.#serials.set(known.grant, serial)
      this.#lastToken = token
    }
    return serial
  }

  /** A request behind a logout in its own session gets no token. Other processes and jobs learn of an end within a second. */
  #checkAfterLogout({ at, grant, isJob }: Knowledge, by: Incarnation, ended: number): void {
    if (!isJob && grant.logout?.kind !== 'end') {
      if (ended < at) this.#context.log.violation('I4', this.index, 'a token came after the logout')
    } else if (ended + END_WITHIN_MS < at) grant.servedAfterEnd.push({ by, at })
  }

  #checkWritten(known: Knowledge, { json }: Outcome): void {
    const loaded = json?.written
    if (typeof loaded !== 'number' || known.grant.logout?.kind === 'destroy') return
    if (loaded < known.written) this.#lostData(loaded, known.written, 'a request')
  }

  #lostData(found: number, written: number, where: string): void {
    const what = `${where} found ${found} in the session after ${written} had been written`
    this.#context.log.violation('I3', this.index, what)
    // Reported once.
    this.written = Math.min(this.written, found)
  }

  #loggedOut({ grant }: Knowledge, process: RunningProcess, { json }: Outcome): void {
    if (grant.logout || grant.lost) return
    const { log } = this.#context
    grant.lost = { at: now(), what: `${json.code} from ${process.incarnation.name}` }
    log.note(`the login ${grant.login} is lost`, this.index)
    log.count('lost')
  }

  #expectTemporaryError({ status, json, failure }: Outcome, ...alsoExpected: number[]): void {
    if (failure !== undefined || alsoExpected.includes(status!) || TEMPORARY_ERRORS.includes(json?.code))
      return
    if (this.#context.sessionsMayFail && !String(json?.code).startsWith('ERR_')) return
    const what = `${status} ${JSON.stringify(json)}`
    this.#context.log.violation('unexpected response', this.index, what)
  }
}

/** Whether a response is about an exchange that the authorization server refused to this process, which is judged by itself. */
function isExchangeRefused(
  { json }: Outcome,
  { grant }: Knowledge,
  { incarnation }: RunningProcess,
): boolean {
  const wasRefused = grant.exchanges.some(({ by, outcome }) => by === incarnation && outcome === 'refused')
  return json?.code === 'ERR_INSUFFICIENT_SCOPE' && wasRefused
}

function nameOf({ grant, issue, exchange }: Owner): string {
  return `${grant.login}/${issue.serial}${exchange ? ` exchange ${exchange.number}` : ''}`
}

import { once } from 'node:events'
import {
  Agent,
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { decodeJwt } from 'jose'
import type { AuthorizationServer, TokenResponse } from '../helpers/authorization-server.js'
import { fail } from '../helpers/faults.js'
import { readBody, send } from '../helpers/http-server.js'
import type { Plan, RefreshFault, RefreshMoment } from './plan.js'
import { type Grant, type Incarnation, type Issue, now, type Presentation } from './records.js'
import type { RunLog } from './run-log.js'

/** The grant and the issue of a token. */
export interface Owner {
  readonly grant: Grant
  readonly issue: Issue
}

/** Injects the planned fault at a moment of a refresh. */
export type AtMoment = (fault: RefreshFault, moment: RefreshMoment, presentation: Presentation) => void

interface TokenEndpointContext {
  readonly server: AuthorizationServer
  readonly plan: Plan
  readonly log: RunLog
  readonly incarnations: ReadonlyMap<string, Incarnation>
  readonly atMoment: AtMoment
}

/** How long the sending of a response may take. */
const SENDING_MS = 50
/** How many presentations of a session may be under way. */
const ASKED_AT_A_TIME = 3

interface Reply {
  readonly status: number
  readonly type: string
  readonly body: string
}

/**
 * The token endpoint before the authorization server: it records every refresh token that is presented and its result, and
 * injects the planned faults.
 */
export class TokenEndpoint {
  readonly grants: Grant[] = []
  /** Whether faults are switched off. */
  calm = false
  #isDown = false
  readonly #context: TokenEndpointContext
  readonly #byRefreshToken = new Map<string, Owner>()
  readonly #byAccessToken = new Map<string, Owner>()
  /** Every request has a new connection, since a kept one may be about to close. */
  readonly #agent = new Agent()
  readonly #presentations = new Map<number, number>()
  readonly #revocations = new Map<number, number>()
  readonly #http = createServer((message, response) => void this.#handle(message, response))
  #port = 0

  constructor(context: TokenEndpointContext) {
    this.#context = context
  }

  async open(): Promise<void> {
    await this.#up()
    this.#port = (this.#http.address() as AddressInfo).port
  }

  async #up(): Promise<void> {
    this.#http.listen(this.#port, '127.0.0.1')
    await once(this.#http, 'listening')
  }

  async #down(): Promise<void> {
    const closed = once(this.#http, 'close')
    this.#http.close()
    this.#http.closeAllConnections()
    await closed
  }

  get tokenEndpoint(): string {
    return `http://127.0.0.1:${this.#port}/token`
  }

  get revocationEndpoint(): string {
    return `${this.tokenEndpoint}/revocation`
  }

  ownerOf(accessToken: string): Owner | undefined {
    return this.#byAccessToken.get(accessToken)
  }

  ownerOfRefreshToken(refreshToken: string): Owner | undefined {
    return this.#byRefreshToken.get(refreshToken)
  }

  get refreshes(): number {
    return this.grants.reduce((sum, { issues }) => sum + issues.length - 1, 0)
  }

  async login(session: number, login: number): Promise<{ grant: Grant; response: TokenResponse }> {
    const response = await this.#context.server.login(`user ${session}`)
    const grant: Grant = {
      session,
      login,
      sub: decodeJwt(response.id_token).sub!,
      issues: [],
      presentations: [],
      revocations: [],
      olderTokens: [],
      servedAfterEnd: [],
    }
    this.grants.push(grant)
    this.#issue(grant, response)
    return { grant, response }
  }

  /** Stops the server for a time; every connection is reset. */
  async down(ms: number): Promise<void> {
    this.#context.log.note(`the authorization server is down, for ${ms} ms`)
    this.#isDown = true
    this.#loseResponsesUnderWay()
    await this.#down()
    await delay(ms)
    await this.#up()
    this.#isDown = false
    this.#context.log.note('the authorization server is up')
  }

  async close(): Promise<void> {
    await this.#down()
    this.#agent.destroy()
  }

  /** A response that was written a moment ago may not have been sent when its connection is reset. */
  #loseResponsesUnderWay(): void {
    const time = now()
    for (const { presentations } of this.grants) {
      for (const presentation of presentations.slice(-ASKED_AT_A_TIME)) {
        const { answeredAt, lostAt } = presentation
        const underWay = answeredAt === undefined ? lostAt === undefined : time - answeredAt < SENDING_MS
        if (underWay && presentation.fault === undefined) presentation.fault = 'authorization server down'
        if (underWay) presentation.lostAt ??= time
      }
    }
  }

  #issue(grant: Grant, response: TokenResponse, answers?: Presentation): Issue {
    const issue: Issue = {
      serial: grant.issues.length + 1,
      refreshToken: response.refresh_token,
      accessToken: response.access_token,
      at: now(),
      ...(answers && { answers }),
    }
    grant.issues.push(issue)
    this.#byRefreshToken.set(issue.refreshToken, { grant, issue })
    this.#byAccessToken.set(issue.accessToken, { grant, issue })
    return issue
  }

  async #handle(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await readBody(message).catch(() => undefined)
    if (body === undefined) return
    const parameters = new URLSearchParams(body)
    const token = parameters.get(message.url === '/token' ? 'refresh_token' : 'token')
    const owner = this.#byRefreshToken.get(token ?? '') ?? this.#byAccessToken.get(token ?? '')
    const by = this.#context.incarnations.get(String(message.headers['x-chaos-process']))
    if (!owner || !by) return void response.writeHead(500).end()
    if (message.url === '/token') await this.#present(owner, by, message, body, response)
    else await this.#revoke(owner, by, message, body, response)
  }

  async #present(
    { grant, issue: { serial } }: Owner,
    by: Incarnation,
    message: IncomingMessage,
    body: string,
    response: ServerResponse,
  ): Promise<void> {
    const { log, atMoment } = this.#context
    const sentAt = Number(message.headers['x-chaos-sent'])
    const isJob = message.headers['x-chaos-job'] === 'true'
    const presentation: Presentation = { at: now(), sentAt, serial, by, isJob }
    grant.presentations.push(presentation)
    const name = `refresh token ${grant.login}/${serial}${isJob ? ' (for a job)' : ''}`
    const say = (text: string) => log.note(`AS: ${name} of ${by.name} ${text}`, grant.session)
    say('was presented')
    response.once('close', () => {
      if (response.writableFinished) return
      presentation.lostAt ??= now()
      say('lost its connection')
    })
    const fault = this.#refreshFault(grant)
    if (fault) {
      presentation.fault = nameOf(fault)
      say(`has the fault: ${presentation.fault}`)
    }
    const moment = (at: RefreshMoment) => fault && atMoment(fault, at, presentation)

    moment('asked')
    if (fault?.kind === 'slow') await delay(fault.beforeMs)
    if (fault?.kind === 'refused') {
      const status = fail(response, fault.fault)
      if (status !== undefined) presentation.status = status
      return
    }
    const reply = await this.#forward(message, body)
    this.#recordOutcome(grant, presentation, reply, say)
    moment('processed')
    if (fault?.kind === 'slow') await delay(fault.afterMs)
    if (fault?.kind === 'response lost') {
      presentation.lostAt = now()
      return void fail(response, fault.fault)
    }
    if (response.destroyed) return
    if (this.#isDown) {
      presentation.lostAt = now()
      return
    }
    presentation.answeredAt = now()
    send(response, { status: reply.status, headers: { 'content-type': reply.type }, body: reply.body })
    say('was answered')
    moment('answered')
  }

  #refreshFault({ session, ending = false }: Grant): RefreshFault | undefined {
    const count = this.#presentations.get(session) ?? 0
    this.#presentations.set(session, count + 1)
    return this.calm ? undefined : this.#context.plan.refreshFault(session, count, ending)
  }

  #recordOutcome(grant: Grant, presentation: Presentation, reply: Reply, say: (text: string) => void): void {
    presentation.judgedAt = now()
    presentation.status = reply.status
    const response = JSON.parse(reply.body) as TokenResponse
    if (reply.status === 200) {
      presentation.outcome = 'succeeded'
      const { serial } = this.#issue(grant, response, presentation)
      say(`gave ${grant.login}/${serial}`)
    } else {
      presentation.outcome = response.error === 'invalid_grant' ? 'invalid_grant' : 'other'
      say(`was refused: ${String(response.error)} (${String(response.error_description)})`)
    }
  }

  async #revoke(
    { grant, issue: { serial } }: Owner,
    by: Incarnation,
    message: IncomingMessage,
    body: string,
    response: ServerResponse,
  ): Promise<void> {
    const { log, plan } = this.#context
    const revocation = { at: now(), serial, by, processed: false }
    grant.revocations.push(revocation)
    const count = this.#revocations.get(grant.session) ?? 0
    this.#revocations.set(grant.session, count + 1)
    const fault = this.calm ? undefined : plan.revocationFault(grant.session, count)
    const say = (text: string) =>
      log.note(`AS: revocation of ${grant.login}/${serial} by ${by.name} ${text}`, grant.session)
    say(fault === undefined ? 'came' : `came, and has the fault: ${String(fault)}`)
    if (fault !== undefined) log.count(`fault: revocation ${String(fault)}`)
    if (fault !== undefined && fault !== 'reset-after') return void fail(response, fault)
    const reply = await this.#forward(message, body)
    revocation.processed = reply.status === 200
    say(`was answered with ${reply.status}`)
    if (fault !== undefined) return void fail(response, fault)
    send(response, { status: reply.status, headers: { 'content-type': reply.type }, body: reply.body })
  }

  /** Forwards a request to the authorization server, also if the client has disconnected. */
  #forward({ url, headers }: IncomingMessage, body: string): Promise<Reply> {
    const { server } = this.#context
    const { authorization, 'content-type': type } = headers
    const sent = { authorization, 'content-type': type, 'content-length': Buffer.byteLength(body) }
    return new Promise((resolve, reject) => {
      const forwarded = httpRequest(
        new URL(url ?? '/', server.issuer),
        { method: 'POST', headers: sent, agent: this.#agent },
        (response) => {
          const type = response.headers['content-type'] ?? 'text/plain'
          readBody(response).then(
            (text) => resolve({ status: response.statusCode ?? 0, type, body: text }),
            reject,
          )
        },
      )
      forwarded.once('error', reject)
      forwarded.end(body)
    })
  }
}

export function nameOf(fault: RefreshFault): string {
  switch (fault.kind) {
    case 'slow':
      return 'slow'
    case 'refused':
    case 'response lost':
      return `${fault.kind} (${String(fault.fault)})`
    case 'paused':
      return `requester paused ${fault.forMs} ms when ${fault.moment}`
    case 'killed':
      return `requester killed when ${fault.moment}`
    case 'Redis restarted':
      return `Redis restarted when ${fault.moment}`
  }
}

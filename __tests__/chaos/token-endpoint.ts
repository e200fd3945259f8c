import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { calculateJwkThumbprint, decodeJwt, type JWK } from 'jose'
import type { AuthorizationServer, TokenResponse } from '../helpers/authorization-server.js'
import { fail } from '../helpers/faults.js'
import { readBody, send } from '../helpers/http-server.js'
import { TOKEN_EXCHANGE } from '../helpers/token-exchange.js'
import { forward, type Reply } from './forward.js'
import type { Plan, RefreshFault, RefreshMoment } from './plan.js'
import {
  type Exchange,
  type Grant,
  type Incarnation,
  type Issue,
  now,
  type Presentation,
  type Processing,
} from './records.js'
import type { RunLog } from './run-log.js'

/** The grant and the issue of a token, and the exchange that brought it, if it is not of the issue itself. */
export interface Owner {
  readonly grant: Grant
  readonly issue: Issue
  readonly exchange?: Exchange
}

/** The tokens of a login, and the private key that they are bound to. */
export interface NewLogin {
  readonly grant: Grant
  readonly response: TokenResponse
  readonly dpopKey?: JWK
}

/** Injects the planned fault at a moment of a token request. */
export type AtMoment = (
  fault: RefreshFault,
  moment: RefreshMoment,
  request: { readonly by: Incarnation },
) => void

interface TokenEndpointContext {
  readonly server: AuthorizationServer
  readonly plan: Plan
  readonly log: RunLog
  /** Whether the tokens of each login are bound to a key. */
  readonly dpop: boolean
  readonly incarnations: ReadonlyMap<string, Incarnation>
  readonly atMoment: AtMoment
}

/** How long the sending of a response may take. */
const SENDING_MS = 50
/** How many presentations of a session may be under way. */
const ASKED_AT_A_TIME = 3

/** A request that has been read, and its response. */
interface Received {
  readonly message: IncomingMessage
  readonly body: string
  readonly response: ServerResponse
}

/**
 * The token endpoint before the authorization server: it records every refresh token that is presented, every exchange, and their
 * results, and injects the planned faults.
 */
export class TokenEndpoint {
  readonly grants: Grant[] = []
  /** Whether faults are switched off. */
  calm = false
  #isDown = false
  readonly #context: TokenEndpointContext
  readonly #byRefreshToken = new Map<string, Owner>()
  readonly #byAccessToken = new Map<string, Owner>()
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

  async login(session: number, login: number): Promise<NewLogin> {
    const { dpop, server } = this.#context
    const key = dpop ? generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey : undefined
    const response = await server.login(`user ${session}`, key && { client: 'none', dpopKey: key })
    const dpopKey = key && (key.export({ format: 'jwk' }) as JWK)
    const grant: Grant = {
      session,
      login,
      sub: decodeJwt(response.id_token).sub!,
      ...(dpopKey && { jkt: await calculateJwkThumbprint(dpopKey) }),
      issues: [],
      presentations: [],
      exchanges: [],
      revocations: [],
      olderTokens: [],
      servedAfterEnd: [],
    }
    this.grants.push(grant)
    this.#issue(grant, response)
    return { grant, response, ...(dpopKey && { dpopKey }) }
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
    const isExchange = parameters.get('grant_type') === TOKEN_EXCHANGE
    const name = message.url !== '/token' ? 'token' : isExchange ? 'subject_token' : 'refresh_token'
    const token = parameters.get(name) ?? ''
    const owner = this.#byRefreshToken.get(token) ?? this.#byAccessToken.get(token)
    const by = this.#context.incarnations.get(String(message.headers['x-chaos-process']))
    if (!owner || !by) return void response.writeHead(500).end()
    const request = { message, body, response }
    if (message.url !== '/token') await this.#revoke(owner, by, request)
    else if (isExchange) await this.#exchange(owner, by, request)
    else await this.#present(owner, by, request)
  }

  async #present({ grant, issue: { serial } }: Owner, by: Incarnation, request: Received): Promise<void> {
    const presentation: Presentation = { ...sendingOf(request), serial, by }
    grant.presentations.push(presentation)
    const name = `refresh token ${grant.login}/${serial}${presentation.isJob ? ' (for a job)' : ''}`
    const say = (text: string) => this.#context.log.note(`AS: ${name} of ${by.name} ${text}`, grant.session)
    say('was presented')
    await this.#serve(this.#refreshFault(grant), presentation, request, say, (reply) =>
      this.#recordOutcome(grant, presentation, reply, say),
    )
  }

  async #exchange({ grant, issue, exchange: of }: Owner, by: Incarnation, request: Received): Promise<void> {
    const { log, plan } = this.#context
    const { session } = grant
    const number = grant.exchanges.length + 1
    const exchange: Exchange = { ...sendingOf(request), number, serial: issue.serial, by }
    grant.exchanges.push(exchange)
    const name = `access token ${grant.login}/${issue.serial}${exchange.isJob ? ' (for a job)' : ''}`
    const say = (text: string) => log.note(`AS: ${name} of ${by.name} ${text}`, session)
    say(`came to be exchanged (${number})`)
    if (of)
      log.violation('unexpected response', session, `the exchanged token ${of.number} was exchanged again`)
    const fault = this.calm ? undefined : plan.exchangeFault(session, number)
    await this.#serve(fault, exchange, request, say, (reply) => {
      exchange.judgedAt = now()
      const { access_token, error, error_description } = JSON.parse(reply.body) as TokenResponse
      const isWithoutNonce = error === 'use_dpop_nonce'
      exchange.outcome = reply.status === 200 ? 'succeeded' : isWithoutNonce ? 'other' : 'refused'
      if (isWithoutNonce) log.count('nonces')
      if (reply.status === 200) this.#byAccessToken.set(access_token, { grant, issue, exchange })
      say(
        reply.status === 200
          ? `was exchanged (${number})`
          : `was refused: ${String(error)} (${String(error_description)})`,
      )
    })
  }

  /** Has the authorization server process a request, unless a fault prevents it, and sends the response back. */
  async #serve(
    fault: RefreshFault | undefined,
    record: Processing,
    { message, body, response }: Received,
    say: (text: string) => void,
    onReply: (reply: Reply) => void,
  ): Promise<void> {
    const { atMoment, server } = this.#context
    response.once('close', () => {
      if (response.writableFinished) return
      record.lostAt ??= now()
      say('lost its connection')
    })
    if (fault) {
      record.fault = nameOf(fault)
      say(`has the fault: ${record.fault}`)
    }
    const moment = (at: RefreshMoment) => fault && atMoment(fault, at, record)

    moment('asked')
    if (fault?.kind === 'slow') await delay(fault.beforeMs)
    if (fault?.kind === 'refused') {
      const status = fail(response, fault.fault)
      if (status !== undefined) record.status = status
      return
    }
    const reply = await forward(server.issuer, message, body)
    record.status = reply.status
    onReply(reply)
    moment('processed')
    if (fault?.kind === 'slow') await delay(fault.afterMs)
    if (fault?.kind === 'response lost') {
      record.lostAt = now()
      return void fail(response, fault.fault)
    }
    if (response.destroyed) return
    if (this.#isDown) {
      record.lostAt = now()
      return
    }
    record.answeredAt = now()
    send(response, reply)
    say('was answered')
    moment('answered')
  }

  #refreshFault({ session, ending = false }: Grant): RefreshFault | undefined {
    const count = this.#presentations.get(session) ?? 0
    this.#presentations.set(session, count + 1)
    return this.calm ? undefined : this.#context.plan.refreshFault(session, count, ending)
  }

  #recordOutcome(grant: Grant, presentation: Presentation, reply: Reply, say: (text: string) => void): void {
    const { log } = this.#context
    presentation.judgedAt = now()
    const response = JSON.parse(reply.body) as TokenResponse
    if (reply.status === 200) {
      presentation.outcome = 'succeeded'
      const { serial } = this.#issue(grant, response, presentation)
      say(`gave ${grant.login}/${serial}`)
    } else {
      presentation.outcome = response.error === 'invalid_grant' ? 'invalid_grant' : 'other'
      const why = `${String(response.error)} (${String(response.error_description)})`
      say(`was refused: ${why}`)
      // The server asks for its newest nonce, and has not looked at the refresh token.
      if (response.error === 'use_dpop_nonce') log.count('nonces')
      else if (presentation.outcome === 'other')
        log.violation('unexpected response', grant.session, `a refresh was refused: ${why}`)
    }
  }

  async #revoke(
    { grant, issue: { serial } }: Owner,
    by: Incarnation,
    { message, body, response }: Received,
  ): Promise<void> {
    const { log, plan, server } = this.#context
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
    const reply = await forward(server.issuer, message, body)
    revocation.processed = reply.status === 200
    say(`was answered with ${reply.status}`)
    if (fault !== undefined) return void fail(response, fault)
    send(response, reply)
  }
}

/** When a request was sent, and for whom. */
function sendingOf({ message: { headers } }: Received) {
  const isJob = headers['x-chaos-job'] === 'true'
  return { at: now(), sentAt: Number(headers['x-chaos-sent']), isJob }
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

import { present, revoke } from './authorization-server-model.js'
import type { Configuration, Limit } from './configuration.js'
import type { Step } from './explore.js'
import { commit, lease, read, release, withoutLease } from './grant-store-model.js'
import {
  atRest,
  bit,
  newest,
  type Process,
  type Request,
  type State,
  type TokenSet,
} from './protocol-state.js'

/** The lease's time in the model: it stands still, and an event of its own ends a lease. */
export const NOW = 0
const TTL = 1

/**
 * What a request does next, as refresh.ts, session-writer.ts and token-manager.ts of lib/manager/ have it.
 *
 * An operation and its answer are one step: while an answer is on its way nobody else can see whether it has arrived.
 * The token endpoint's is a step of its own, since it can be lost, and so is the write that follows a read.
 */
export class RequestSteps {
  readonly #configuration: Configuration
  readonly #before: State
  readonly #index: number
  readonly #name: string

  constructor(configuration: Configuration, before: State, index: number) {
    this.#configuration = configuration
    this.#before = before
    this.#index = index
    this.#name = nameOf(index)
  }

  all(): Step<State>[] {
    switch (this.#request.at) {
      case 'at rest':
        return []
      case 'arrived':
        return [this.#ask()]
      case 'leasing':
        return this.#lease()
      case 'rereading':
        return [this.#reread(), ...this.#sessionFails(() => this.#finish())]
      case 'presenting':
        return [this.#present(), ...this.#connectionBreaks()]
      case 'answered':
        return [this.#learn()]
      case 'refused':
        return [this.#askForNewer(), ...this.#storeIsSilent(() => this.#finish())]
      case 'looking again':
        return [this.#lookAgain(), ...this.#sessionFails(() => this.#finish())]
      case 'committing':
        return [...this.#commit(), ...this.#commitFails()]
      case 'storing':
      case 'healing':
      case 'saving':
        return this.#readBeforeWrite(this.#request.at)
      case 'writing stored':
      case 'writing healed':
      case 'writing saved':
        return [this.#write(this.#request.tokens)]
      case 'checking stored':
      case 'checking healed':
      case 'checking saved':
        return [this.#check(), ...this.#storeIsSilent(() => this.#written())]
      case 'revoking':
        return [this.#revokeLate()]
      case 'releasing':
        return [this.#release(), ...this.#releaseFails()]
    }
  }

  get #process(): Process {
    return this.#before.processes[this.#index]!
  }

  get #request(): Request {
    return this.#process.request
  }

  /** No I/O: what the process knows is served if it is fresh. */
  #ask(): Step<State> {
    const { known, ended } = this.#process
    const { copy } = this.#request
    const tokens = newest(copy, known)
    if (ended || !copy || !tokens) return this.#step('finds no tokens', this.#done())
    if (this.#isUsable(tokens)) {
      const isStale = copy.revision < tokens.revision
      const next = isStale ? this.#go('healing', { tokens }) : this.#done()
      return this.#step(`is served at${tokens.token}, without asking anybody`, next)
    }
    if (tokens.token === 0) return this.#step('has nothing to refresh with', this.#done())
    return this.#step('needs a refresh', this.#go('leasing', { tokens }))
  }

  #lease(): Step<State>[] {
    const { tokens } = this.#request
    const { flaw } = this.#configuration
    const isPlain = flaw === 'a waiter presents the token that it had before it waited'
    const revision = isPlain ? Number.MAX_SAFE_INTEGER : tokens!.revision
    const asked = { owner: this.#name, ttlMs: TTL, revision }
    const [grant, answer] =
      flaw === 'no lease'
        ? [this.#before.grant, { ...read(this.#before.grant), granted: true }]
        : lease(this.#before.grant, asked, NOW)
    const givesUp = { ...this.#step('gives up waiting for the lease', this.#done()), fromOutside: true }
    const silence = this.#storeIsSilent(() => this.#done())
    const orphaned = silence.flatMap(({ state }) =>
      answer.granted
        ? this.#orphanLease(state, { ...grant, lease: { owner: 'nobody', expiresAt: TTL } })
        : [],
    )
    const isAnswered = answer.granted || answer.ended || (answer.record?.revision ?? 0) > revision
    if (!isAnswered) return [givesUp, ...silence]
    const what = answer.granted ? 'takes the lease' : 'gets a newer state instead of the lease'
    const leased = this.#with({ grant }, { holdsLease: answer.granted && flaw !== 'no lease' })
    const next = isPlain ? leased.#go('presenting', { tokens: tokens! }) : leased.#adopt(answer)
    return [this.#step(what, next), ...silence, ...orphaned]
  }

  #orphanLease(state: State, grant: State['grant']): Step<State>[] {
    const what = 'is granted the lease by a grant store that does not respond'
    return [{ ...this.#step(what, { ...state, grant }), fromOutside: true }]
  }

  #adopt(answer: { record?: TokenSet; ended?: unknown; granted: boolean }): State {
    if (answer.ended || this.#process.ended) return this.#knowingEnd(answer.ended)
    const tokens = newest(this.#request.tokens, answer.record)!
    const next = this.#taking(tokens)
    if (next.#isUsable(tokens)) return next.#finish()
    if (!answer.granted) return next.#go('leasing', { tokens })
    if (this.#configuration.flaw === 'the session is not read again') return next.#decide(tokens)
    return next.#go('rereading', { tokens })
  }

  #reread(): Step<State> {
    if (this.#process.ended) return this.#step('hears of the logout', this.#finish())
    const tokens = newest(this.#request.tokens, this.#before.session)!
    return this.#step('reads the session again', this.#taking(tokens).#decide(tokens))
  }

  #decide(tokens: TokenSet): State {
    if (this.#isUsable(tokens)) return this.#finish()
    return tokens.token === 0 ? this.#finish() : this.#go('presenting', { tokens })
  }

  #present(): Step<State> {
    const { token } = this.#request.tokens!
    const [next, answer] = this.#arrives()
    if (answer === 'invalid_grant') {
      return this.#step(
        `presents rt${token}; the answer is invalid_grant`,
        next.#go('refused', { presented: token }),
      )
    }
    const what = `presents rt${token}; the response is rt${answer}`
    return this.#step(what, next.#go('answered', { presented: token, answer }))
  }

  /** The authorization server has the refresh token. */
  #arrives(): readonly [RequestSteps, answer: number | 'invalid_grant'] {
    const { server, history } = this.#before
    const { token } = this.#request.tokens!
    const [left, answer] = present(server, token, this.#configuration.reuse ?? 'ends the grant')
    const cutOff = history.cutOff | (this.#request.lostLease ? bit(token) : 0)
    const lost = this.#allows('the outcome of a use is lost') ? history.lost : 0
    const isMisuse = (server.presented & ~cutOff & ~lost & bit(token)) !== 0
    const isOver = server.ended || this.#before.session === undefined
    const misuse = isOver ? { misusedLate: token } : { misused: token }
    return [this.#with({ server: left, history: { ...history, cutOff, ...(isMisuse && misuse) } }), answer]
  }

  #connectionBreaks(): Step<State>[] {
    const { left } = this.#before
    const { token } = this.#request.tokens!
    if (left.breaks === 0) return []
    const broken = this.#with({ left: { ...left, breaks: left.breaks - 1 } })
    const [presented] = broken.#arrives()
    const { history } = presented.#before
    const lost = presented.#with({ history: { ...history, lost: history.lost | bit(token) } })
    return [
      this.#outside(`loses the connection before rt${token} is presented`, broken.#finish()),
      this.#outside(`presents rt${token}; the answer is lost`, lost.#finish()),
    ]
  }

  #learn(): Step<State> {
    const { answer, tokens } = this.#request
    const fresh = { revision: tokens!.revision + 1, token: answer }
    return this.#step(`gets rt${answer}`, this.#keep(fresh))
  }

  /** In this process at once, then in the grant store, then in the session. */
  #keep(tokens: TokenSet): State {
    const { ended } = this.#process
    const next = this.#taking(tokens).#with({}, { tokens, answer: 0 })
    return ended ? next.#tooLate() : next.#go('committing', {})
  }

  #askForNewer(): Step<State> {
    const { flaw } = this.#configuration
    const { tokens } = this.#request
    const dead = { revision: tokens!.revision + 1, token: 0 }
    if (flaw === 'invalid_grant is believed at once')
      return this.#step('gives the grant up', this.#keep(dead))
    const answer = read(this.#before.grant)
    const what = 'asks the grant store for something newer'
    if (answer.ended || this.#process.ended) return this.#step(what, this.#knowingEnd(answer.ended))
    const found = newest(newest(tokens, answer.record), this.#process.known)!
    return this.#step(what, this.#taking(found).#go('looking again', { tokens: found }))
  }

  #lookAgain(): Step<State> {
    const what = 'looks for something newer in the session'
    if (this.#process.ended) return this.#step(what, this.#finish())
    const { tokens, presented } = this.#request
    const found = newest(tokens, this.#before.session)!
    const next = this.#taking(found)
    const isNewer = found.token !== 0 && found.token !== presented
    if (isNewer) return this.#step(what, next.#decide(found))
    return this.#step(what, next.#keep({ revision: found.revision + 1, token: 0 }))
  }

  #commit(): Step<State>[] {
    const tokens = this.#request.tokens!
    const [grant, answer] = committed(this.#configuration, this.#before.grant, this.#name, tokens)
    const next = this.#with({ grant }, { holdsLease: false })
    const what = `commits revision ${tokens.revision}`
    if (answer.ended || this.#process.ended) {
      return [this.#step(what, next.#knowing({ ended: true, known: undefined }).#tooLate())]
    }
    const prompt = this.#step(what, next.#go('storing', { isPrompt: true }))
    if (this.#configuration.sessions === 'compare and set') return [prompt]
    return [prompt, this.#step(`${what}, and is slow then`, next.#go('storing', {}))]
  }

  /** It never arrives, it arrives and its answer does not, or it arrives later. */
  #commitFails(): Step<State>[] {
    const { left, grant } = this.#before
    if (left.outages === 0) return []
    const tokens = this.#request.tokens!
    const failed = this.#with({ left: { ...left, outages: left.outages - 1 } }, { commitFailed: true })
    const next = (rest: Partial<State>) =>
      this.#process.ended ? failed.#with(rest).#tooLate() : failed.#with(rest).#go('storing', {})
    return [
      this.#outside('cannot reach the grant store to commit', next({})),
      this.#outside(
        'commits, and gets no answer',
        next({ grant: committed(this.#configuration, grant, this.#name, tokens)[0] }),
      ),
      this.#outside('gives up a commit that is on its way', next({ afloat: tokens })),
    ]
  }

  #readBeforeWrite(purpose: 'storing' | 'healing' | 'saving'): Step<State>[] {
    if (this.#process.logout.clear === 'read') return []
    const { session } = this.#before
    const write = purpose === 'saving' ? this.#toSave() : this.#toReplace()
    const what = `reads the session, ${purpose}`
    const declines = write === session && (purpose !== 'saving' || !session)
    if (declines) return [this.#step(what, this.#written()), ...this.#writeFails()]
    if (this.#configuration.sessions === 'compare and set') return [this.#write(write), ...this.#writeFails()]
    const places = { storing: 'writing stored', healing: 'writing healed', saving: 'writing saved' } as const
    return [this.#step(what, this.#go(places[purpose], { tokens: write })), ...this.#writeFails()]
  }

  #toReplace(): TokenSet | undefined {
    const { session } = this.#before
    const { flaw } = this.#configuration
    const tokens = this.#request.tokens!
    if (flaw === 'the session is written even if it holds no tokens' && !session) return tokens
    if (!session || this.#process.ended) return session
    if (flaw === 'the session is overwritten whatever its revision') return tokens
    return session.revision < tokens.revision ? tokens : session
  }

  /** A session that the app saves carries the newest tokens, and none if they were taken out of it. */
  #toSave(): TokenSet | undefined {
    const { session } = this.#before
    const { ended, known } = this.#process
    if (!session || ended) return undefined
    return newest(newest(session, this.#request.copy), known)
  }

  #write(tokens: TokenSet | undefined): Step<State> {
    const what = tokens
      ? `writes revision ${tokens.revision} into the session`
      : 'saves the session without tokens'
    const next = this.#with({ session: tokens })
    const { at, isPrompt } = this.#request
    const isTrusting = this.#configuration.flaw === 'no process asks after a slow write'
    if (isPrompt || isTrusting || !tokens) return this.#step(what, next.#written())
    if (at === 'storing' || at === 'writing stored') return this.#step(what, next.#go('checking stored', {}))
    if (at === 'healing' || at === 'writing healed') return this.#step(what, next.#go('checking healed', {}))
    return this.#step(what, next.#go('checking saved', { tokens }))
  }

  /** Whether the grant has ended, or another process has refreshed it, while the session was written. */
  #check(): Step<State> {
    const { grant, session } = this.#before
    const { at } = this.#request
    const { record, ended } = read(grant)
    const what = 'asks the grant store after the write'
    if (ended || this.#process.ended) {
      return this.#step(
        `${what}, and takes the tokens out again`,
        this.#with({ session: undefined }).#knowing({ ended: true, known: undefined }).#written(),
      )
    }
    const next = record ? this.#taking(record) : this
    const mended = at === 'checking saved' && session ? newest(session, next.#process.known) : session
    return this.#step(what, next.#with({ session: mended }).#written())
  }

  #writeFails(): Step<State>[] {
    return this.#sessionFails(() => {
      const { commitFailed, tokens } = this.#request
      const { history } = this.#before
      if (!commitFailed) return this.#written()
      if (!this.#allows('tokens that no store takes are known to one process only')) return this.#written()
      const stranded = tokens!.token
      return this.#with({
        history: { ...history, stranded, cutOff: history.cutOff | bit(stranded - 1) },
      }).#written()
    })
  }

  /** After the session's turn, whatever came of it. */
  #written(): State {
    const { at } = this.#request
    if (at === 'saving' || at === 'writing saved' || at === 'checking saved')
      return this.#go('at rest', atRest)
    if (at === 'healing' || at === 'writing healed' || at === 'checking healed') return this.#done()
    if (this.#process.ended) return this.#tooLate()
    return this.#finish()
  }

  #tooLate(): State {
    const isKept = this.#configuration.flaw === 'late tokens are not revoked'
    return this.#request.tokens!.token === 0 || isKept ? this.#finish() : this.#go('revoking', {})
  }

  #revokeLate(): Step<State> {
    const { token } = this.#request.tokens!
    const server = revoke(this.#before.server, token)
    return this.#step(`revokes rt${token}, which came too late`, this.#with({ server }).#finish())
  }

  #release(): Step<State> {
    const { grant } = this.#before
    const isFree = this.#configuration.flaw === 'any process may release the lease'
    const left = isFree ? withoutLease(grant) : release(grant, this.#name)
    return this.#step('releases the lease', this.#with({ grant: left }).#done())
  }

  #releaseFails(): Step<State>[] {
    return this.#storeIsSilent(() => {
      const { grant } = this.#before
      const isOurs = grant.lease?.owner === this.#name
      const left = isOurs ? { ...grant, lease: { owner: 'nobody', expiresAt: TTL } } : grant
      return this.#with({ grant: left }).#done()
    })
  }

  #allows(limit: Limit): boolean {
    return this.#configuration.allows?.includes(limit) ?? false
  }

  #isUsable({ token }: TokenSet): boolean {
    return token > this.#before.expired
  }

  #knowingEnd(ended: unknown): State {
    return (ended ? this.#knowing({ ended: true, known: undefined }) : this).#finish()
  }

  /** The refresh is over. */
  #finish(): State {
    return this.#request.holdsLease ? this.#go('releasing', { tokens: undefined }) : this.#done()
  }

  /** The request has its answer, and ends. */
  #done(): State {
    const { copy } = this.#request
    if (this.#configuration.saves && copy) return this.#go('saving', { ...atRest, at: 'saving', copy })
    return this.#go('at rest', atRest)
  }

  #sessionFails(next: () => State): Step<State>[] {
    const { left } = this.#before
    if (left.sessionFailures === 0) return []
    const state = next()
    const spent = { ...left, sessionFailures: left.sessionFailures - 1 }
    return [this.#outside('gets an error from the session store', { ...state, left: spent })]
  }

  #storeIsSilent(next: () => State): Step<State>[] {
    const { left } = this.#before
    if (left.outages === 0) return []
    const spent = { ...left, outages: left.outages - 1 }
    return [this.#outside('gets no answer from the grant store', { ...next(), left: spent })]
  }

  /** The process learns of tokens, unless it knows of newer ones or of the grant's end. */
  #taking(tokens: TokenSet): RequestSteps {
    const { known, ended } = this.#process
    if (ended || (known && known.revision >= tokens.revision)) return this
    return this.#knowing({ known: tokens })
  }

  #knowing(process: Partial<Process>): RequestSteps {
    return new RequestSteps(this.#configuration, withProcess(this.#before, this.#index, process), this.#index)
  }

  #with(state: Partial<State>, request?: Partial<Request>): RequestSteps {
    const before = { ...this.#before, ...state }
    const after = request
      ? withProcess(before, this.#index, { request: { ...this.#request, ...request } })
      : before
    return new RequestSteps(this.#configuration, after, this.#index)
  }

  #go(at: Request['at'], request: Partial<Request>): State {
    return withProcess(this.#before, this.#index, { request: { ...this.#request, ...request, at } })
  }

  #step(what: string, state: State): Step<State> {
    return { what: `${this.#name} ${what}`, state }
  }

  #outside(what: string, state: State): Step<State> {
    return { ...this.#step(what, state), fromOutside: true }
  }
}

export function nameOf(index: number): string {
  return 'ABC'.charAt(index)
}

export function withProcess(state: State, index: number, process: Partial<Process>): State {
  const changed = { ...state.processes[index]!, ...process }
  return { ...state, processes: state.processes.with(index, changed) }
}

export function committed(
  { flaw }: Configuration,
  grant: State['grant'],
  owner: string,
  tokens: TokenSet,
): ReturnType<typeof commit<TokenSet>> {
  const isHolder = grant.lease?.owner === owner
  if (flaw === 'only the holder of the lease may commit' && !isHolder) return [grant, read(grant)]
  if (flaw === 'a commit overwrites whatever is there' && !grant.ended) {
    return commit(withoutRecord(grant), owner, tokens)
  }
  return commit(flaw === 'any process may release the lease' ? withoutLease(grant) : grant, owner, tokens)
}

function withoutRecord(grant: State['grant']): State['grant'] {
  const { record: _, ...left } = grant
  return left
}

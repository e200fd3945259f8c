import type { Configuration } from './configuration.js'
import type { Step } from './explore.js'
import { withoutLease } from './grant-store-model.js'
import { atRest, bit, noLogout, type State, started, stored } from './protocol-state.js'
import { committed, nameOf, withProcess } from './request-steps.js'

/** What may happen to a process, or not. */
export function eventsOf(configuration: Configuration, state: State, index: number): Step<State>[] {
  return [...arrivals(state, index), ...crash(state, index), ...stall(configuration, state, index)].map(
    fromOutside,
  )
}

/** What may happen to all of them, or not. */
export function eventsOfAll(configuration: Configuration, state: State): Step<State>[] {
  const steps = [
    ...accessTokensExpire(state),
    ...grantStoreLosesEverything(configuration, state),
    ...commitArrivesLate(configuration, state),
  ]
  return steps.map(fromOutside)
}

/** Time passes: a lease that nobody renews ends. */
export function leaseExpires(configuration: Configuration, state: State): Step<State>[] {
  const { lease } = state.grant
  if (!lease) return []
  const { allows, flaw } = configuration
  const index = state.processes.findIndex((_, index) => nameOf(index) === lease.owner)
  const request = state.processes[index]?.request
  const isRenewed = request?.holdsLease && !request.commitFailed && flaw !== 'the lease is not renewed'
  if (isRenewed || (!request && flaw === 'a crashed holder keeps the lease')) return []
  const isExcused = request?.commitFailed && allows?.includes('the lease runs out while a commit fails')
  const before = isExcused ? cutOff(state, index) : state
  return [
    { what: `the lease of ${lease.owner} expires`, state: { ...before, grant: withoutLease(state.grant) } },
  ]
}

function arrivals(state: State, index: number): Step<State>[] {
  const { left, session, processes } = state
  const { request, logout } = processes[index]!
  const name = nameOf(index)
  const steps: Step<State>[] = []
  if (left.requests > 0 && request.at === 'at rest' && session) {
    const next = withProcess(state, index, { request: { ...atRest, at: 'arrived', copy: session } })
    steps.push({ what: `${name} gets a request`, state: spend(next, 'requests') })
  }
  if (left.logouts > 0 && logout.at === 'none' && session) {
    const next = withProcess(state, index, { logout: { ...noLogout, at: 'arrived', tokens: session } })
    steps.push({ what: `${name} gets a request to log out`, state: spend(next, 'logouts') })
  }
  return steps
}

/** A process starts anew. What it alone knew is lost, and nobody renews its lease. */
function crash(state: State, index: number): Step<State>[] {
  const { left, processes, grant, history } = state
  const { known, request } = processes[index]!
  const isBlank = known === undefined && request === atRest && processes[index] === started
  if (left.crashes === 0 || isBlank) return []
  const name = nameOf(index)
  const held = Math.max(known?.token ?? 0, request.tokens?.token ?? 0, request.answer)
  const lost = held > stored(state).token ? history.lost | bit(held - 1) : history.lost
  const lease = grant.lease?.owner === name ? { ...grant.lease, owner: 'nobody' } : grant.lease
  const next = {
    ...withProcess(state, index, started),
    grant: lease ? { ...grant, lease } : grant,
    history: { ...history, lost },
  }
  return [{ what: `${name} crashes and starts anew`, state: spend(next, 'crashes') }]
}

/** The holder of the lease stands still until the lease is over. */
function stall({ allows }: Configuration, state: State, index: number): Step<State>[] {
  const { left, grant } = state
  if (left.stalls === 0 || grant.lease?.owner !== nameOf(index)) return []
  const isExcused = allows?.includes('a process stands still for longer than its lease holds')
  const next = { ...(isExcused ? cutOff(state, index) : state), grant: withoutLease(grant) }
  return [{ what: `${nameOf(index)} stands still until its lease is over`, state: spend(next, 'stalls') }]
}

function accessTokensExpire(state: State): Step<State>[] {
  const { left, server, expired } = state
  if (left.expiries === 0 || server.newest <= expired) return []
  const next = { ...state, expired: server.newest }
  return [{ what: 'the access tokens expire', state: spend(next, 'expiries') }]
}

/** Leases, records and ends are gone. Whatever the session does not hold yet can only be known by a process now. */
function grantStoreLosesEverything({ allows }: Configuration, state: State): Step<State>[] {
  const { left, session, server } = state
  if (left.losses === 0) return []
  const isExcused = allows?.includes('tokens that the session does not hold are lost with the grant store')
  const unsaved = isExcused ? server.presented & ~(bit(session?.token ?? 0) - 1) : 0
  const cut = isExcused ? state.processes.reduce((before, _, index) => cutOff(before, index), state) : state
  const history = {
    ...cut.history,
    cutOff: cut.history.cutOff | unsaved,
    stored: session?.revision ?? 0,
    storeLost: true,
  }
  return [
    { what: 'the grant store loses everything', state: spend({ ...cut, grant: {}, history }, 'losses') },
  ]
}

function commitArrivesLate(configuration: Configuration, state: State): Step<State>[] {
  const { afloat, grant } = state
  if (!afloat) return []
  const [left] = committed(configuration, grant, 'nobody any more', afloat)
  const next = { ...state, afloat: undefined, grant: left }
  return [{ what: `the commit of revision ${afloat.revision} arrives late`, state: next }]
}

/** From here on others may hold the lease that the process believes to hold. */
function cutOff(state: State, index: number): State {
  const { request } = state.processes[index]!
  if (!request.holdsLease) return state
  const { history } = state
  const presented = request.presented === 0 ? 0 : bit(request.presented)
  const next = withProcess(state, index, { request: { ...request, lostLease: true } })
  return { ...next, history: { ...history, cutOff: history.cutOff | presented } }
}

function spend(state: State, what: keyof State['left']): State {
  return { ...state, left: { ...state.left, [what]: state.left[what] - 1 } }
}

function fromOutside(step: Step<State>): Step<State> {
  return { ...step, fromOutside: true }
}

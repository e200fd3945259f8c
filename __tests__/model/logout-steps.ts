import { revoke } from './authorization-server-model.js'
import type { Configuration } from './configuration.js'
import type { Step } from './explore.js'
import { end } from './grant-store-model.js'
import { type Logout, newest, noLogout, type Process, type State } from './protocol-state.js'
import { nameOf, withProcess } from './request-steps.js'

/** What a logout does next, as `revoke()` has it: the process forgets, the two stores in any order, the server. */
export function logoutSteps(configuration: Configuration, state: State, index: number): Step<State>[] {
  const process = state.processes[index]!
  const { logout } = process
  const name = nameOf(index)
  const go = (next: Partial<Logout>, rest: Partial<State> = {}, own: Partial<Process> = {}): State =>
    withProcess({ ...state, ...rest }, index, {
      ...own,
      logout: settled(configuration, { ...logout, ...next }),
    })
  const step = (what: string, next: State): Step<State> => ({ what: `${name} ${what}`, state: next })
  const { left } = state

  const call = () => {
    const tokens = newest(logout.tokens, process.known)
    return step('logs out', go({ at: 'ending', tokens }, {}, { known: undefined, ended: true }))
  }
  const endInGrantStore = () => {
    const { flaw } = configuration
    const [ended, record] = end(state.grant, 'logged_out')
    const { ended: _, ...forgotten } = ended
    const grant = flaw === 'a logout leaves no tombstone' ? forgotten : ended
    const found = flaw === 'a logout revokes the tokens that it knows itself' ? undefined : record
    const crossed = (record?.revision ?? 0) > (logout.tokens?.revision ?? 0)
    const tokens = newest(logout.tokens, found)
    return step('ends the grant in the grant store', go({ end: 'done', tokens, crossed }, { grant }))
  }
  const clear = (): Step<State>[] => {
    if (process.request.at.startsWith('writing')) return []
    const atOnce = configuration.sessions === 'compare and set' || !state.session
    const clearedLast = logout.end === 'done'
    const next = atOnce
      ? go({ clear: 'done', clearedLast }, { session: undefined })
      : go({ clear: 'read', clearedLast })
    return [step(atOnce ? 'clears the session' : 'reads the session, clearing', next)]
  }
  /** Who was told before the end that the grant is alive has written by then, or will ask. */
  const clearAgain = (): Step<State>[] => {
    const isTurnTaken = process.request.at.startsWith('writing')
    const isWritten = !logout.crossed || !state.processes.some(({ request }) => request.isPrompt)
    if (isTurnTaken || !isWritten) return []
    return [step('clears the session again', go({ at: 'revoking' }, { session: undefined }))]
  }
  const storeIsSilent = (): Step<State>[] => {
    if (left.outages === 0) return []
    const next = go({ end: 'done', failed: true }, { left: { ...left, outages: left.outages - 1 } })
    return [{ ...step('cannot end the grant in the grant store', next), fromOutside: true }]
  }
  const sessionFails = (): Step<State>[] => {
    if (left.sessionFailures === 0) return []
    const spent = { ...left, sessionFailures: left.sessionFailures - 1 }
    const next = go({ clear: 'done', failed: true }, { left: spent })
    return [{ ...step('cannot clear the session', next), fromOutside: true }]
  }
  const revokeTokens = () => {
    const token = logout.tokens?.token ?? 0
    const server = token === 0 ? state.server : revoke(state.server, token)
    const history = { ...state.history, loggedOut: state.history.loggedOut || !logout.failed }
    return step(`revokes rt${token}`, go(noLogout, { server, history }))
  }

  switch (logout.at) {
    case 'none':
      return []
    case 'arrived':
      return [call()]
    case 'clearing again':
      return clearAgain()
    case 'revoking':
      return [revokeTokens()]
    case 'ending':
      return [
        ...(logout.end === 'to do' ? [endInGrantStore(), ...storeIsSilent()] : []),
        ...(logout.clear === 'to do' ? [...clear(), ...sessionFails()] : []),
        ...(logout.clear === 'read'
          ? [step('clears the session', go({ clear: 'done' }, { session: undefined }))]
          : []),
      ]
  }
}

function settled({ flaw }: Configuration, logout: Logout): Logout {
  const isOver = logout.at === 'ending' && logout.clear === 'done' && logout.end === 'done'
  if (!isOver) return logout
  const isAgain = (logout.crossed || !logout.clearedLast) && flaw !== 'a logout clears the session once'
  return { ...logout, at: isAgain ? 'clearing again' : 'revoking' }
}

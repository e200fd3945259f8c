import type { Limit } from './configuration.js'
import { bit, isAtRest, type State, stored } from './protocol-state.js'

type Allows = (limit: Limit) => boolean

/** The first invariant that does not hold in a state, in words. */
export function violationOf(state: State, allows: Allows): string | undefined {
  return (
    oneUse(state, allows) ??
    neverBackwards(state) ??
    logoutWins(state, allows) ??
    (isAtRest(state) ? violationAtRest(state, allows) : undefined)
  )
}

function violationAtRest(state: State, allows: Allows): string | undefined {
  return foundByAll(state, allows) ?? lateTokensAreRevoked(state, allows) ?? deadOnlyIfEnded(state)
}

/** I1: no refresh token is presented again while the outcome of its first use is known to anybody. */
function oneUse({ history }: State, allows: Allows): string | undefined {
  const { misused, misusedLate } = history
  if (misused > 0) return `I1: rt${misused} was presented twice`
  if (misusedLate === 0 || allows('a refresh token comes again for a grant that is over')) return undefined
  return `I1: rt${misusedLate} was presented twice, the second time for a grant that is over`
}

/**
 * I2: what was once in the grant store or in the session does not give way to anything older. A process may serve an
 * older token than another one has got meanwhile: what is valid is served without asking.
 */
function neverBackwards(state: State): string | undefined {
  if (isOver(state)) return undefined
  const { revision } = stored(state)
  const before = state.history.stored
  return revision < before ? `I2: revision ${revision} took the place of ${before}` : undefined
}

/** I2: when all is done, whatever a living process knows is in one of the stores. */
function foundByAll(state: State, allows: Allows): string | undefined {
  const { processes, history } = state
  const isLost =
    history.storeLost && allows('tokens that the session does not hold are lost with the grant store')
  if (isLost || isOver(state)) return undefined
  const newest = Math.max(...processes.map(({ known }) => known?.token ?? 0))
  if (newest <= stored(state).token || newest === history.stranded) return undefined
  return `I2: one process knows rt${newest}, and no other will find it`
}

/** I4: after a logout that has succeeded there are no tokens in either store, or somebody is about to take them out. */
function logoutWins({ grant, history, session, processes }: State, allows: Allows): string | undefined {
  if (!history.loggedOut) return undefined
  const isChecked = processes.some(({ request }) => request.at.startsWith('checking'))
  if (
    session &&
    !isChecked &&
    !allows('a session that is being written while it is cleared has its tokens back')
  ) {
    return 'I4: the session has tokens again after the logout'
  }
  if (history.storeLost && allows('a grant store that loses everything forgets a logout')) return undefined
  if (!grant.ended) return 'I4: the grant store has forgotten the logout'
  return grant.record ? 'I4: the grant store has tokens again after the logout' : undefined
}

/** I4: when all is done after a logout, the newest refresh token that reached anybody is revoked. */
function lateTokensAreRevoked(state: State, allows: Allows): string | undefined {
  const { history, server } = state
  if (!history.loggedOut || server.ended || isOutcomeLost(state)) return undefined
  if (history.storeLost && allows('a grant store that loses everything forgets a logout')) return undefined
  if (allows('a logout does not revoke tokens that only the session holds')) return undefined
  return `I4: rt${server.newest} is not revoked after the logout`
}

/** I6: a grant is given up only if the authorization server has ended it, or nobody has its newest refresh token. */
function deadOnlyIfEnded(state: State): string | undefined {
  const { grant, session, processes, server } = state
  const isDead = [grant.record, session, ...processes.map(({ known }) => known)].some(
    (set) => set?.token === 0,
  )
  if (!isDead || server.ended || isOutcomeLost(state)) return undefined
  return `I6: the grant was ended, and rt${server.newest} is good`
}

/** Nobody is to find tokens any more. */
function isOver(state: State): boolean {
  const { grant, session, server } = state
  return grant.ended !== undefined || !session || server.ended || isOutcomeLost(state)
}

/** The newest refresh token was on its way, or known to one process alone, when a crash or a broken connection took it. */
function isOutcomeLost({ server, history }: State): boolean {
  return (history.lost & bit(server.newest - 1)) !== 0
}

/** Notes how new a revision has been stored. */
export function withHistory(state: State): State {
  const { history } = state
  const { revision } = stored(state)
  return revision > history.stored ? { ...state, history: { ...history, stored: revision } } : state
}

import { afterLogin, type Configuration } from './configuration.js'
import type { Model } from './explore.js'
import { violationOf, withHistory } from './invariants.js'
import { logoutSteps } from './logout-steps.js'
import { eventsOf, eventsOfAll, leaseExpires } from './outside-events.js'
import { isAtRest, keyOf, type State } from './protocol-state.js'
import { RequestSteps } from './request-steps.js'

/**
 * The lease and commit protocol: processes that serve one session, the session store, the grant store and the
 * authorization server, with everything that can happen between them.
 */
export function grantProtocol(
  configuration: Configuration,
  initial: readonly State[] = [afterLogin(configuration)],
): Model<State> {
  return {
    initial,
    steps: (state) =>
      [
        ...state.processes.flatMap((_, index) => [
          ...new RequestSteps(configuration, state, index).all(),
          ...logoutSteps(configuration, state, index),
          ...eventsOf(configuration, state, index),
        ]),
        ...eventsOfAll(configuration, state),
        ...leaseExpires(configuration, state),
      ].map((step) => ({ ...step, state: withHistory(step.state) })),
    key: keyOf,
    violation: (state) => violationOf(state, (limit) => configuration.allows?.includes(limit) ?? false),
    isAtRest,
  }
}

import type { TokenEvent, TokenEventListener } from '../../lib/tokens/events.js'

/** Returns a listener that keeps the events of a test, except for those of the logins that it begins with. */
export function keepingEvents(events: TokenEvent[]): TokenEventListener {
  return (event) => {
    if (event.type !== 'logged_in') events.push(event)
  }
}

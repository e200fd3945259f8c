/** The methods of a client that tells of its connections. */
interface EmittingClient {
  on(event: string, listener: () => void): unknown
  off(event: string, listener: () => void): unknown
}

/**
 * The events of a cluster or a sentinel when one of its connections has broken or was replaced. No event says whether it was that of
 * the subscription, or when the client has subscribed again.
 */
const BREAKS = ['error', 'node-error', 'node-disconnect', 'topology-change']

interface BreakWatch {
  /** The functions that are called, one for each subscription. */
  readonly watching: Set<() => void>
  readonly onBreak: () => void
}

const breakWatches = new WeakMap<object, BreakWatch>()

/**
 * Calls a function at each event of {@link BREAKS}. A client has one listener for all subscriptions, since Node warns of more than
 * ten. Returns a function that stops the calls.
 */
export function watchBreaks(client: EmittingClient, onBreak: () => void): () => void {
  const { watching, onBreak: listener } = breakWatches.get(client) ?? newBreakWatch(client)
  if (watching.size === 0) for (const event of BREAKS) client.on(event, listener)
  watching.add(onBreak)
  return () => {
    if (watching.delete(onBreak) && watching.size === 0)
      for (const event of BREAKS) client.off(event, listener)
  }
}

function newBreakWatch(client: EmittingClient): BreakWatch {
  const watching = new Set<() => void>()
  const watch: BreakWatch = {
    watching,
    onBreak() {
      for (const onBreak of watching) onBreak()
    },
  }
  breakWatches.set(client, watch)
  return watch
}

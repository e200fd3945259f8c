import type { GrantChanges, Watch } from './grant-changes.js'
import type { GrantState, LeaseRequest } from './grant-store.js'

/** The interval at which a waiting process asks the database while it has no subscription, in milliseconds. */
const POLL_MS = 50
/** The interval while it has a subscription, in milliseconds: a message may be lost when a connection breaks. */
const SAFETY_MS = 1_000

/** The result of one attempt to take a lease, in one command. */
export interface Attempt {
  readonly isGranted: boolean
  /** Whether another owner holds the lease, so that a later attempt may succeed. */
  readonly isHeld: boolean
  /** When to try again if nothing changes, in milliseconds: the other lease has run out by then. */
  readonly retryMs: number
  readonly state: GrantState
}

/** Takes the lease of a grant. While it is held, tries again whenever the grant changes or the other lease may have run out. */
export async function waitForLease(
  changes: GrantChanges,
  grantId: string,
  request: LeaseRequest,
  attempt: () => Promise<Attempt>,
): Promise<GrantState & { granted: boolean }> {
  const watch = changes.watch(grantId)
  try {
    return await takeLease(changes, watch, request, attempt)
  } finally {
    watch.end()
  }
}

async function takeLease(
  changes: GrantChanges,
  watch: Watch,
  { waitMs }: LeaseRequest,
  attempt: () => Promise<Attempt>,
): Promise<GrantState & { granted: boolean }> {
  const deadline = performance.now() + waitMs
  for (;;) {
    const { isListening } = changes
    const change = watch.next()
    const { isGranted, isHeld, retryMs, state } = await attempt()
    const left = () => deadline - performance.now()
    if (!isHeld || left() <= 0) return { ...state, granted: isGranted }
    if (!isListening) {
      await timeout(Math.min(left(), retryMs, SAFETY_MS), changes.listen())
      // A change before the subscription was open is found by another attempt.
      if (changes.isListening) continue
    }
    await timeout(Math.min(left(), retryMs, isListening ? SAFETY_MS : POLL_MS), change)
  }
}

/** Resolves after a time, or when the promise does, if that is sooner. */
async function timeout(ms: number, promise: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  // One millisecond more, as a timer may fire a little early.
  const time = new Promise<void>((resolve) => (timer = setTimeout(resolve, Math.max(0, ms) + 1)))
  await Promise.race([promise, time])
  clearTimeout(timer)
}

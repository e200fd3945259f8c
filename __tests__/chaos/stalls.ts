import { now } from './records.js'

const BEAT_MS = 250
/** A busy machine is sometimes late by this much. */
const STALL_MS = 1_500

/** Reports when this process has stalled: the process or the machine was paused. */
export function watchForStalls(tell: (from: number, to: number) => void): NodeJS.Timeout {
  let last = now()
  const beat = setInterval(() => {
    const time = now()
    if (time - last > STALL_MS) tell(last, time)
    last = time
  }, BEAT_MS)
  return beat.unref()
}

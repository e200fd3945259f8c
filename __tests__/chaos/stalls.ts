import { now } from './records.js'

const BEAT_MS = 250
/** A busy machine is late by this much now and then. */
const STALL_MS = 1_500

/** Tells whenever this process has stood still for longer than it should: it was paused, or the machine was. */
export function watchForStalls(tell: (from: number, to: number) => void): NodeJS.Timeout {
  let last = now()
  const beat = setInterval(() => {
    const time = now()
    if (time - last > STALL_MS) tell(last, time)
    last = time
  }, BEAT_MS)
  return beat.unref()
}

/** A timer that is later than this, in milliseconds, says that the process stood still. */
const LATE_MS = 50
/** How long a process that stood still reads the data that has arrived in the meantime, in milliseconds. */
const READING_MS = 250

/**
 * Calls a function after some time. If the process stood still and the timer is late, the call waits a moment longer: timers fire
 * first, and a response that has arrived in the meantime is read after them. Returns a function that stops the timer. The timer
 * does not keep the process alive.
 */
export function patientTimer(ms: number, run: () => void): () => void {
  const dueAt = performance.now() + ms
  let timer = setTimeout(() => {
    if (performance.now() - dueAt < LATE_MS) run()
    else timer = setTimeout(run, READING_MS).unref()
  }, ms).unref()
  return () => clearTimeout(timer)
}

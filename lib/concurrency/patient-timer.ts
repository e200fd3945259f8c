/** If a timer fires later than this, in milliseconds, the process was suspended, or its event loop was blocked. */
const LATE_MS = 50
/** How long such a process then reads the data that has arrived in the meantime, before the call is made, in milliseconds. */
const READING_MS = 250

/**
 * Calls a function after some time. If the process was suspended or blocked and the timer is late, the call waits a moment longer:
 * timers fire first, and a response that has arrived in the meantime is read after them. Returns a function that stops the timer.
 * The timer does not keep the process alive.
 */
export function patientTimer(ms: number, run: () => void): () => void {
  const dueAt = performance.now() + ms
  let timer = setTimeout(() => {
    if (performance.now() - dueAt < LATE_MS) run()
    else timer = setTimeout(run, READING_MS).unref()
  }, ms).unref()
  return () => clearTimeout(timer)
}

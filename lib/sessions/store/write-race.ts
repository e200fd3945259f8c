import { setTimeout as delay } from 'node:timers/promises'
import { FAST_WRITE_MS, RACE_WINDOW_MS, RECENT_REFRESH_MS } from '../../concurrency/time-constants.js'

/*
 * Write races. A session store cannot change a session in one step: a process reads the session, changes it and writes it
 * back. If two processes do so at the same moment, the later write undoes the earlier one. Within one process locks prevent
 * this (session-locks.ts). Between processes two rules settle it:
 *
 * 1. Write fast, or ask again. A process writes tokens within FAST_WRITE_MS after it has learned that the grant has not ended.
 *    If the write took longer, the process asks the grant store again. It removes the tokens if the grant has ended, and writes
 *    newer tokens if it finds them.
 * 2. Wait, then look again. A process that may have raced with another one waits for RACE_WINDOW_MS, in which every fast write
 *    ends. Then it reads the stored session and repairs it: what the app saved, the newest tokens, or none after a logout. A
 *    process that finds older tokens in a session leaves them to the process that has refreshed, for RECENT_REFRESH_MS.
 *
 * A process may have raced when it learns from the grant store that another process has refreshed or ended the grant, when it
 * has learned so less than RECENT_REFRESH_MS ago, when the grant store does not respond, or when its own write was slow.
 */

/**
 * Whether so little time has passed that no other process can have read and written the session meanwhile. `elapsedMs` is in
 * milliseconds.
 */
export function isFast(elapsedMs: number): boolean {
  return elapsedMs <= FAST_WRITE_MS
}

/** Resolves when every other process that was about to write the session has done so. */
export async function raceWindowOver(): Promise<void> {
  await delay(RACE_WINDOW_MS)
}

/** Resolves when a process that refreshed a moment ago has written the session, even if it is slow. */
export async function recentRefreshOver(): Promise<void> {
  await delay(RECENT_REFRESH_MS)
}

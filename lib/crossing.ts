/*
 * Session stores cannot change a session in one step, so a process reads it and writes it back. Two processes that do so at
 * the same moment cross: the later write undoes the earlier one. Whoever finds out afterwards mends it, and these two
 * times see to it that nothing is left to mend then: who writes has done so PROMPT_MS after it was told that the grant is
 * alive, or asks once more; who comes later looks again after CROSSING_MS.
 */

/** A write that takes longer than this, in milliseconds, is followed by a question. */
export const PROMPT_MS = 50

/** How long to wait before looking again, in milliseconds. */
export const CROSSING_MS = 2 * PROMPT_MS

/** For how long after the news of a refresh its writer may still be about to write: on a busy machine it is not prompt. */
export const BUSY_MS = 10 * CROSSING_MS

import type { Clock } from '../../lib/concurrency/clock.js'

/** A clock that a test turns. It starts at the machine's time. */
export interface TestClock extends Clock {
  /** Time passes. */
  advance(ms: number): void
  /** Somebody sets the machine's clock; no time passes. */
  jump(ms: number): void
}

export function testClock(): TestClock {
  let passed = 0
  let jumped = 0
  return {
    now: () => Date.now() + passed + jumped,
    monotonic: () => performance.now() + passed,
    advance: (ms) => {
      passed += ms
    },
    jump: (ms) => {
      jumped += ms
    },
  }
}

/** A clock that stands still until a test turns it, so that a boundary can be met to the millisecond over HTTP too. */
export function stillClock(): TestClock {
  const start = Math.floor(Date.now() / 1000) * 1000
  let passed = 0
  let jumped = 0
  return {
    now: () => start + passed + jumped,
    monotonic: () => passed,
    advance: (ms) => {
      passed += ms
    },
    jump: (ms) => {
      jumped += ms
    },
  }
}

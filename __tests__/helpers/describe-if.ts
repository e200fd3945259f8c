import { describe } from '@jest/globals'

/** Tests with a program that a developer's machine may not have; where CI is true, its absence is an error. */
export function describeIf(available: boolean, missing: string, name: string, tests: () => void): void {
  // What is left out is said, and biome's rule is about what was forgotten.
  const describeOrNot = available ? describe : describe.skip
  describeOrNot(name, tests)
  if (available) return
  const message = `${missing}: "${name}" is not tested.`
  if (process.env.CI === 'true') throw new Error(message)
  process.stderr.write(`${message}\n`)
}

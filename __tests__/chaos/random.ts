import { createHash } from 'node:crypto'

/** Draws from a seed. Equal seeds draw equally, on every machine. */
export interface Random {
  /** At least 0, less than 1. */
  next(): number
  /** A whole number, both ends included. */
  int(from: number, to: number): number
  chance(probability: number): boolean
  pick<T>(list: readonly T[]): T
  /** Draws one by its weight. */
  weighted<T>(choices: readonly (readonly [weight: number, choice: T])[]): T
  /** A further source of its own: how much is drawn from one does not change what another draws. */
  fork(name: string | number): Random
}

export function randomFrom(seed: string): Random {
  const next = mulberry32(createHash('sha256').update(seed).digest().readUInt32LE())
  const int = (from: number, to: number) => from + Math.floor(next() * (to - from + 1))
  return {
    next,
    int,
    chance: (probability) => next() < probability,
    pick: (list) => list[int(0, list.length - 1)]!,
    weighted(choices) {
      let left = next() * choices.reduce((sum, [weight]) => sum + weight, 0)
      const drawn = choices.find(([weight]) => {
        left -= weight
        return left < 0
      })
      return (drawn ?? choices.at(-1)!)[1]
    },
    fork: (name) => randomFrom(`${seed}/${name}`),
  }
}

function mulberry32(state: number): () => number {
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

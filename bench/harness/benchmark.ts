import type { Chart } from './chart.js'

/** One benchmark. `bench/main.ts` has the list of them. */
export interface Benchmark {
  /** Names its files in `bench/results`, and is the word for `--only`. */
  readonly name: string
  readonly title: string
  run(options: RunOptions): Promise<BenchmarkResult>
}

export interface RunOptions {
  /** Fewer rounds and fewer sizes: shows that the benchmark works; its numbers are rough. */
  readonly quick: boolean
  /** Whether the peers in `bench/peers` take part. */
  readonly peers: boolean
  /** Tells on the terminal where the benchmark is. */
  progress(text: string): void
}

export interface BenchmarkResult {
  /** The table. The keys of the first row are its head; numbers are rounded when they are shown. */
  readonly rows: readonly Record<string, number | string>[]
  /** What was to be reached, in words and numbers, and whether this run reached it. */
  readonly reach?: readonly { readonly text: string; readonly holds: boolean }[]
  readonly chart?: Chart
  /** What a reader has to know: what exactly is measured, which contender is missing and why. */
  readonly notes?: readonly string[]
}

/**
 * The benchmarks: `npm run bench`. Each prints a table and writes `bench/results/<name>.json` and its pictures.
 *
 * - `--quick`: less of everything, in less than two minutes; writes into `bench/results/quick`, which git ignores.
 * - `--only <name>`: one benchmark; may be repeated.
 * - `--peers`: installs the peers of `bench/peers`, and measures them as well.
 *
 * Compare ratios of one run. Absolute times differ from machine to machine, and from run to run.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { benchmark as calls } from './calls.js'
import type { Benchmark } from './harness/benchmark.js'
import { cleanUp } from './harness/cleanup.js'
import { installPeers } from './harness/peers.js'
import { endProgress, print, progressOf, write } from './harness/report.js'
import { benchmark as hotPath } from './hot-path.js'
import { benchmark as imports } from './imports.js'
import { benchmark as outage } from './outage.js'
import { benchmark as proxy } from './proxy.js'
import { benchmark as scale } from './scale.js'
import { benchmark as steadyUse } from './steady-use.js'
import { benchmark as storm } from './storm.js'

const BENCHMARKS: readonly Benchmark[] = [
  hotPath,
  calls,
  storm,
  // Under load.
  steadyUse,
  outage,
  scale,
  proxy,
  imports,
]

const { quick, only, peers } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string', multiple: true, default: [] },
    peers: { type: 'boolean', default: false },
  },
}).values

const names = BENCHMARKS.map(({ name }) => name)
const unknown = only.filter((name) => !names.includes(name))
if (unknown.length > 0)
  throw new Error(`There is no benchmark ${unknown.join(', ')}. There are: ${names.join(', ')}`)

if (peers) installPeers()
const folder = join(import.meta.dirname, 'results', quick ? 'quick' : '')
const startedAt = performance.now()
for (const benchmark of BENCHMARKS) {
  if (only.length > 0 && !only.includes(benchmark.name)) continue
  console.log(`\n${benchmark.title}\n`)
  const result = await benchmark
    .run({ quick, peers, progress: progressOf(benchmark) })
    .finally(cleanUp)
    .finally(endProgress)
  print(result)
  write(folder, benchmark, quick, result)
}
console.log(`\nDone in ${Math.round((performance.now() - startedAt) / 1000)} s.`)

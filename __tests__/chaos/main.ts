/*
 * npm run chaos -- --sessions 2000 --processes 4 --seed 1
 *
 * Runs a site of several real processes over real Redis in front of a real authorization server, with many sessions at a
 * time, and with jobs that have a reference in place of a session. Processes are killed and paused, also for longer than a
 * lease. Redis is restarted empty, comes back with the state of a moment ago, stays away for a minute, and is frozen. The
 * authorization server is slow, fails, and loses responses.
 * During the run, and once more for every session at the end, it checks:
 *
 * I1  No refresh token is presented twice, unless the library could not know the outcome of the first time.
 * I2  No response has an older token than an earlier response, or the key of another login; at the end every session has the newest
 *     and can be refreshed.
 * I3  The app's data in a session are complete.
 * I4  After a logout no process serves its tokens and no session holds them; tokens that arrive late are revoked.
 * I6  Only the authorization server's own response ends a login. Every lost login has a reason. An exchange ends none.
 * I10 An end by the operator reaches all processes and jobs within a second.
 *
 * The seed decides the sessions, their requests and all faults. But the timing of real processes varies: the same seed
 * gives the same plan, not the same interleavings.
 */
import { parseArgs } from 'node:util'
import { progressLine, reportOf, violationsOf, writeTraces } from './report.js'
import { type ChaosOptions, runChaos } from './run.js'

const USAGE = `Usage: npm run chaos -- [options]

  --sessions <n>    how many sessions the run has (default: 2000)
  --processes <n>   how many processes serve them (default: 4)
  --parallel <n>    how many sessions are active at a time (default: 60)
  --seed <text>     decides sessions, requests and faults (default: the time)
  --minutes <n>     no session begins after this time
  --pace <n>        how many times more often than every 3 seconds a fault happens (default: 1)
  --grants <where>  redis or postgres: the grant store (default: redis)
  --one-redis       sessions and grants in one Redis, which keeps its data over restarts
  --dpop            binds the tokens of each login to a key, with nonces, and seals them
  --exchange        a quarter of the requests and jobs needs a token exchange
  --traces <dir>    writes the trace of each session with a violation into a directory
  --help

Exits with 1 if an invariant was violated.
`

const { values } = parseArgs({
  options: {
    sessions: { type: 'string', default: '2000' },
    processes: { type: 'string', default: '4' },
    parallel: { type: 'string', default: '60' },
    seed: { type: 'string', default: String(Date.now()) },
    minutes: { type: 'string' },
    pace: { type: 'string', default: '1' },
    grants: { type: 'string', default: 'redis' },
    'one-redis': { type: 'boolean', default: false },
    dpop: { type: 'boolean', default: false },
    exchange: { type: 'boolean', default: false },
    traces: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})

let shown = 0

if (values.help) process.stdout.write(USAGE)
else await main()

async function main(): Promise<void> {
  const options: ChaosOptions = {
    seed: values.seed,
    sessions: positive('sessions'),
    processes: positive('processes'),
    parallel: positive('parallel'),
    pace: positive('pace'),
    oneRedis: values['one-redis'],
    grants: grantsOf(values.grants),
    dpop: values.dpop,
    exchange: values.exchange,
    ...(values.minutes !== undefined && { maxMs: positive('minutes') * 60_000 }),
    onProgress: (progress) => showProgress(progressLine(options, progress)),
  }
  const result = await runChaos(options)
  process.stderr.write('\n')
  process.stdout.write(`${reportOf(options, result)}\n`)
  if (values.traces !== undefined) await writeTraces(values.traces, result)
  if (result.log.violations.length === 0) return
  process.stdout.write(`\n${violationsOf(result)}\n`)
  process.exitCode = 1
}

function positive(name: 'sessions' | 'processes' | 'parallel' | 'pace' | 'minutes'): number {
  const value = Number(values[name])
  if (value > 0) return value
  process.stderr.write(`--${name} must be a number above 0.\n\n${USAGE}`)
  return process.exit(2)
}

function grantsOf(where: string): 'redis' | 'postgres' {
  if (where === 'redis' || (where === 'postgres' && !values['one-redis'])) return where
  process.stderr.write(`--grants must be redis or postgres, and --one-redis needs redis.\n\n${USAGE}`)
  return process.exit(2)
}

/** A terminal shows one line that changes; a file gets one now and then. */
function showProgress(line: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r${line}\u001b[K`)
  else if (shown++ % 10 === 0) process.stderr.write(`${line}\n`)
}

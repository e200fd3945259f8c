/*
 * The demo in several processes: npm start -- --cluster [--workers 4] [--tour]
 *
 * A primary process has the authorization server and the API. Its workers (node:cluster) are the app: BFFs that share
 * their sessions (connect-redis) and their grants (redisGrantStore) through Redis. It starts the redis-server that is on
 * PATH, or uses the Redis that REDIS_URL names.
 *
 * Without --tour it serves the page of the demo. Its buttons kill workers, and others take over; SIGUSR2 restarts them in turn.
 * With --tour it runs without a browser and prints each step: 50 calls at once on all workers cost one refresh; the
 * worker that refreshes is killed, and another refreshes; all workers are restarted in turn, and the user stays logged
 * in; a logout in one worker is a logout in all. It exits with 1 if a step failed.
 */
import { parseArgs } from 'node:util'
import { ACCESS_TOKEN_SECONDS, PORT } from '../demo/flags.js'
import { startCluster } from './cluster.js'
import { RedisMissing } from './redis.js'
import { tour } from './tour.js'

const { values } = parseArgs({
  options: {
    cluster: { type: 'boolean' },
    tour: { type: 'boolean' },
    workers: { type: 'string', default: '4' },
  },
})
const workers = Number(values.workers)
if (!Number.isInteger(workers) || workers < 2) {
  throw new Error('--workers takes a whole number from 2, e.g. --workers 4.')
}

try {
  // A failed step may leave calls without a response.
  if (values.tour) process.exit((await tour(workers)) ? 0 : 1)
  await serve()
} catch (error) {
  if (!(error instanceof RedisMissing)) throw error
  console.error(error.message)
  process.exitCode = 1
}

async function serve(): Promise<void> {
  const demo = await startCluster({
    port: PORT,
    accessTokenSeconds: ACCESS_TOKEN_SECONDS,
    latencyMs: 250,
    workers,
  })
  console.log(`The demo is at ${demo.url}, with ${demo.redis.name} (Ctrl-C stops it).`)
  console.log(`Its workers are the processes ${demo.team.pids().join(', ')}. Kill one with its button, or`)
  console.log(`restart them all in turn with kill -USR2 ${process.pid}.`)
  let restarted = Promise.resolve()
  process.on('SIGUSR2', () => {
    restarted = restarted.then(demo.team.restart)
  })
  let stopping = false
  const stop = () => {
    // A terminal's Ctrl-C arrives twice when npm passes it on.
    if (!stopping) void demo.close()
    stopping = true
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, stop)
}

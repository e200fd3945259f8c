import type { Benchmark, RunOptions } from './harness/benchmark.js'
import { percentile } from './harness/load.js'
import { startRedis } from './harness/redis.js'
import { type Asked, Browsers } from './load/browsers.js'
import { startSite, startTokenEndpoint } from './load/processes.js'

const SESSIONS = 200
const PROCESSES = 2
/** How often each session requests a token. */
const EVERY_MS = 500

interface Sizes {
  readonly lifetimeMs: number
  readonly serverMs: number
  readonly forMs: number
}

const QUICK: Sizes = { lifetimeMs: 8_000, serverMs: 200, forMs: 9_000 }
const WHOLE: Sizes = { lifetimeMs: 20_000, serverMs: 500, forMs: 60_000 }

/** A load of sessions that are in use all the time. */
export const benchmark: Benchmark = {
  name: 'steady-use',
  title: 'Steady use: which requests wait for the authorization server',
  async run({ quick, progress }) {
    const sizes = quick ? QUICK : WHOLE
    const redis = await startRedis()
    try {
      const ahead = await measure(redis.url, {}, sizes, (text) => progress(`ahead, ${text}`))
      const late = await measure(redis.url, { refreshAheadMs: 0 }, sizes, (text) =>
        progress(`at expiry, ${text}`),
      )
      const rows = [
        { refresh: 'ahead of expiry (default)', ...rowOf(ahead) },
        { refresh: 'at expiry (refreshAheadMs: 0)', ...rowOf(late) },
      ]
      const waited = waitedOf(ahead)
      return {
        rows,
        reach: [{ text: `0 requests wait for the authorization server: ${waited}`, holds: waited === 0 }],
        chart: {
          kind: 'bars',
          title: 'Time of a request in steady use',
          unit: `ms; tokens of ${sizes.lifetimeMs / 1000} s, authorization server at ${sizes.serverMs} ms`,
          labels: ['p50', 'p99', 'p99.9'],
          series: rows.map((row) => ({
            name: row.refresh,
            values: [row['p50 ms'], row['p99 ms'], row['p99.9 ms']],
          })),
          logarithmic: true,
        },
        notes: [
          `${SESSIONS} sessions over ${PROCESSES} processes with Redis for sessions and grants. Each session requests a token every ${EVERY_MS} ms, from any process.`,
          'A request waited if its token was not at hand when it was asked for.',
        ],
      }
    } finally {
      await redis.stop()
    }
  },
}

async function measure(
  redisUrl: string,
  tokens: object,
  { forMs, lifetimeMs, serverMs }: Sizes,
  progress: RunOptions['progress'],
): Promise<Asked[]> {
  const endpoint = await startTokenEndpoint({ latencyMs: serverMs, lifetimeMs })
  const starting = Array.from({ length: PROCESSES }, () => startSite(endpoint, tokens, redisUrl))
  const sites = await Promise.all(starting)
  const browsers = new Browsers(sites.map(({ port }) => port))
  try {
    progress('logging in')
    await browsers.logIn(SESSIONS)
    progress(`load for ${forMs / 1000} s`)
    return await browsers.constantLoad(forMs, EVERY_MS)
  } finally {
    browsers.close()
    await Promise.all([endpoint, ...sites].map((server) => server.stop()))
  }
}

function waitedOf(asked: readonly Asked[]): number {
  return asked.filter(({ waited }) => waited).length
}

function rowOf(asked: readonly Asked[]) {
  const times = asked.map(({ ms }) => ms)
  const waited = waitedOf(asked)
  return {
    requests: asked.length,
    failed: asked.filter(({ status }) => status !== 200).length,
    waited,
    'waited %': (waited / asked.length) * 100,
    'p50 ms': percentile(times, 50),
    'p99 ms': percentile(times, 99),
    'p99.9 ms': percentile(times, 99.9),
  }
}

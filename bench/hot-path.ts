import { startTokenServer } from './authorization-server.js'
import { type ContenderName, startContender } from './contenders/contenders.js'
import type { Benchmark, BenchmarkResult, RunOptions } from './harness/benchmark.js'
import { type Client, client, logIn, median, repeat, send } from './harness/load.js'
import { startRedis } from './harness/redis.js'
import type { BenchServer } from './harness/servers.js'

interface Row {
  readonly contender: ContenderName
  /** The contender that this one is compared with: the least that an app with such sessions costs. */
  readonly limit: ContenderName
  readonly sessions: 'memory' | 'Redis' | 'its own'
  readonly text: string
}

interface Site extends Row {
  readonly server: BenchServer
  readonly browser: Client
  /** The CPU time of a request, in each round. */
  readonly us: number[]
}

const LIBRARY = 'session-token-manager'
const ROWS: readonly Row[] = [
  { contender: 'bare', limit: 'limit', sessions: 'memory', text: 'Express, bare' },
  { contender: 'limit', limit: 'limit', sessions: 'memory', text: 'Express, the limit' },
  { contender: 'mounted', limit: 'limit', sessions: 'memory', text: `${LIBRARY}, mounted` },
  { contender: 'token', limit: 'limit', sessions: 'memory', text: `${LIBRARY}, a token` },
  { contender: 'sealed', limit: 'limit', sessions: 'memory', text: `${LIBRARY}, a token, sealed` },
  { contender: 'limit', limit: 'limit', sessions: 'Redis', text: 'Express, the limit' },
  { contender: 'by hand', limit: 'limit', sessions: 'Redis', text: 'openid-client by hand' },
  { contender: 'token', limit: 'limit', sessions: 'Redis', text: `${LIBRARY}, a token` },
  { contender: 'sealed', limit: 'limit', sessions: 'Redis', text: `${LIBRARY}, a token, sealed` },
  { contender: 'koa limit', limit: 'koa limit', sessions: 'memory', text: 'Koa, the limit' },
  { contender: 'koa mounted', limit: 'koa limit', sessions: 'memory', text: `${LIBRARY}, mounted` },
  { contender: 'koa token', limit: 'koa limit', sessions: 'memory', text: `${LIBRARY}, a token` },
]
const PEERS: readonly Row[] = [
  {
    contender: 'express-openid-connect',
    limit: 'limit',
    sessions: 'its own',
    text: 'express-openid-connect',
  },
  { contender: 'better-auth', limit: 'limit', sessions: 'its own', text: 'better-auth' },
]
const PARALLEL = 16

export const benchmark: Benchmark = {
  name: 'hot-path',
  title: 'What a request with a valid token costs, as CPU time of the server',
  run: compare,
}

/** The apps take turns in rounds, so that whatever else the machine does meets all of them; the median counts. */
async function compare({ quick, peers, progress }: RunOptions): Promise<BenchmarkResult> {
  const [warmUps, rounds, requests] = quick ? [1, 2, 200] : [3, 11, 1500]
  const { issuer } = await startTokenServer({ expiresIn: 3600, delayMs: 0 })
  // It is ready after some seconds.
  const redis = startRedis()
  const sites: Site[] = []
  for (const row of peers ? [...ROWS, ...PEERS] : ROWS) {
    progress(`starting ${row.text} (${row.sessions})`)
    const over = row.sessions === 'Redis' && { redisUrl: (await redis).url }
    const server = await startContender({ contender: row.contender, issuer, ...over })
    const browser = client(server.port, PARALLEL)
    await logIn(browser, issuer)
    sites.push({ ...row, server, browser, us: [] })
  }

  for (let round = -warmUps; round < rounds; round++) {
    progress(round < 0 ? 'warming up' : `round ${round + 1} of ${rounds}`)
    for (const { server, browser, us } of sites) {
      const before = await server.cpuTime()
      await repeat(requests, PARALLEL, async () => {
        const { status } = await send(browser, '/')
        if (status !== 200) throw new Error(`status ${status}`)
      })
      const spent = (await server.cpuTime()) - before
      if (round >= 0) us.push(spent / requests)
    }
  }

  const results = sites.map((site) => {
    const sessions = site.sessions === 'its own' ? 'memory' : site.sessions
    const limit = sites.find(({ contender, sessions: of }) => contender === site.limit && of === sessions)!
    const ratios = site.us.map((us, round) => us / limit.us[round]!)
    return { ...site, us: median(site.us), ratio: median(ratios) }
  })
  return {
    rows: results.map(({ text, contender, sessions, us, ratio }) => ({
      app: text,
      framework: contender.startsWith('koa') ? 'Koa' : 'Express',
      sessions,
      'CPU µs': us,
      'times the limit': ratio,
    })),
    chart: {
      kind: 'bars',
      title: 'A request with a valid token',
      unit: 'CPU time of the server, times that of the limit with the same sessions',
      labels: results.map(labelOf),
      series: [{ name: 'times the limit', values: results.map(({ ratio }) => ratio) }],
      highlighted: results.filter(({ text }) => text.startsWith(LIBRARY)).map(labelOf),
    },
    notes: [
      'The limit is an app with a middleware that does nothing and a handler that awaits, the least that any middleware costs.',
      'Apps with sessions of their own are compared with the limit over sessions in memory.',
      ...(peers ? [] : ['express-openid-connect and better-auth take part with --peers.']),
    ],
  }
}

function labelOf({ text, contender, sessions }: Row): string {
  const framework = contender.startsWith('koa') && !text.startsWith('Koa') ? 'Koa, ' : ''
  return sessions === 'its own' ? text : `${text} (${framework}${sessions})`
}

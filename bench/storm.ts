import { setTimeout as delay } from 'node:timers/promises'
import { startTokenServer, type TokenServer } from './authorization-server.js'
import { type ContenderName, startContender } from './contenders/contenders.js'
import type { Benchmark, BenchmarkResult, RunOptions } from './harness/benchmark.js'
import { type Client, client, keepCookies, logIn, median, percentile, send } from './harness/load.js'
import { startPostgres } from './harness/postgres.js'
import { startRedis } from './harness/redis.js'
import type { BenchServer } from './harness/servers.js'

/** How long the token endpoint takes, and the call that the handlers of the limit share. */
const DELAY_MS = 50
const LIFETIME_MS = 1000
const LIMIT = 'shared call'
const OURS = 'sealed'
const NAMES: Partial<Record<ContenderName, string>> = {
  [LIMIT]: 'the limit: handlers await one shared call',
  [OURS]: 'session-token-manager',
  postgres: 'session-token-manager over PostgreSQL',
  'by hand': 'openid-client by hand',
}
/** At most this often the limit's p99. */
const MOST = 1.1

/** One contender on a number of processes, with the sessions of the rounds. */
interface Site {
  readonly contender: ContenderName
  readonly servers: readonly BenchServer[]
  readonly sessions: Client[]
  readonly storms: Storm[]
  lives: number
}

interface Storm {
  readonly refreshes: number
  readonly failures: number
  readonly p50: number
  readonly p99: number
}

interface Cell {
  readonly contender: ContenderName
  readonly processes: number
  readonly requests: number
  readonly refreshes: number
  readonly failures: number
  readonly p50: number
  readonly p99: number
  /** The p99, as a multiple of the limit's p99 in the same round. */
  readonly ratio: number
  readonly lives: string
}

export const benchmark: Benchmark = {
  name: 'storm',
  title: 'Many requests at once on one session whose token has expired',
  run: compare,
}

async function compare({ quick, peers, progress }: RunOptions): Promise<BenchmarkResult> {
  const rounds = quick ? 2 : 7
  const sizes = quick ? [1, 100] : [1, 10, 100, 1000]
  progress('waiting until Redis and PostgreSQL are old enough')
  const [{ url: redisUrl }, postgresUrl] = await Promise.all([startRedis(), startPostgres()])
  const tokenServer = await startTokenServer({ expiresIn: LIFETIME_MS / 1000, delayMs: DELAY_MS })
  const cells: Cell[] = []
  for (const processes of quick ? [1, 2] : [1, 2, 4]) {
    const contenders: ContenderName[] = [
      LIMIT,
      OURS,
      ...(postgresUrl ? (['postgres'] as const) : []),
      'by hand',
      ...(peers ? peersOn(processes) : []),
    ]
    const sites: Site[] = []
    for (const contender of contenders) {
      const start = () =>
        startContender({
          contender,
          issuer: tokenServer.issuer,
          redisUrl,
          ...(postgresUrl && { postgresUrl }),
        })
      const servers = await Promise.all(Array.from({ length: processes }, start))
      sites.push({ contender, servers, sessions: [], storms: [], lives: 0 })
    }
    for (const warmUp of [true, false])
      for (const requests of warmUp ? sizes.slice(-1) : sizes) {
        progress(`${processes} processes, ${requests} requests at once${warmUp ? ', warming up' : ''}`)
        const measured = await storms(sites, tokenServer, requests, warmUp && !quick ? 4 : rounds)
        if (!warmUp) cells.push(...measured.map((cell) => ({ ...cell, processes })))
      }
    await Promise.all(sites.flatMap(({ servers }) => servers.map((server) => server.stop())))
  }
  return resultOf(cells, peers)
}

/** Accounts of better-auth are in a database; its memory adapter serves one process. */
function peersOn(processes: number): ContenderName[] {
  return processes === 1 ? ['express-openid-connect', 'better-auth'] : ['express-openid-connect']
}

/**
 * The contenders take turns in rounds, each round on a session of its own, after all tokens have expired. When they have
 * expired once more, one request shows whether the session is still logged in.
 */
async function storms(
  sites: readonly Site[],
  tokenServer: TokenServer,
  requests: number,
  rounds: number,
): Promise<Omit<Cell, 'processes'>[]> {
  for (const site of sites) {
    Object.assign(site, { sessions: [], storms: [], lives: 0 })
    for (let round = 0; round < rounds; round++) {
      const browser = client(site.servers[0]!.port, 1)
      await logIn(browser, tokenServer.issuer)
      browser.agent.destroy()
      site.sessions.push(browser)
    }
  }
  await delay(LIFETIME_MS + 50)
  for (let round = 0; round < rounds; round++)
    for (const site of sites)
      site.storms.push(await storm(site, site.sessions[round]!, requests, tokenServer))
  await delay(LIFETIME_MS + 50)
  for (const site of sites)
    for (const session of site.sessions) {
      const browser = client(session.port, 1, session.cookie)
      const { status } = await send(browser, '/')
      browser.agent.destroy()
      if (status === 200) site.lives++
    }
  const [limit] = sites
  return sites.map(({ contender, storms, lives }) => ({
    contender,
    requests,
    refreshes: Math.max(...storms.map(({ refreshes }) => refreshes)),
    failures: Math.max(...storms.map(({ failures }) => failures)),
    p50: median(storms.map(({ p50 }) => p50)),
    p99: median(storms.map(({ p99 }) => p99)),
    ratio: median(storms.map(({ p99 }, round) => p99 / limit!.storms[round]!.p99)),
    lives: contender === LIMIT ? '–' : `${lives} of ${rounds}`,
  }))
}

/** The connections are there before; the requests are spread over the processes. */
async function storm(
  { servers }: Site,
  session: Client,
  requests: number,
  tokenServer: TokenServer,
): Promise<Storm> {
  const each = Math.ceil(requests / servers.length)
  const browsers = servers.map(({ port }) => client(port, each, session.cookie))
  const sendOne = (index: number, path: string) => send(browsers[index % browsers.length]!, path)
  const all = <T>(work: (index: number) => Promise<T>) =>
    Promise.all(Array.from({ length: requests }, (_, i) => work(i)))
  await all((index) => sendOne(index, '/no-such-page'))
  await tokenServer.counts()
  const responses = await all((index) => sendOne(index, '/').catch(() => undefined))
  const { refreshes } = await tokenServer.counts()
  for (const browser of browsers) browser.agent.destroy()
  for (const response of responses) if (response?.status === 200) keepCookies(session, response.headers)
  const times = responses.map((response) => response?.ms ?? Infinity)
  const failures = responses.filter((response) => response?.status !== 200).length
  return { refreshes, failures, p50: median(times), p99: percentile(times, 99) }
}

function resultOf(cells: readonly Cell[], peers: boolean): BenchmarkResult {
  const stores = cells.filter(({ contender }) => contender === OURS || contender === 'postgres')
  const ours = cells.filter(({ contender }) => contender === OURS)
  const worst = Math.max(...ours.map(({ ratio }) => ratio))
  const one = stores.every(({ refreshes }) => refreshes === 1)
  const failures = Math.max(...stores.map((cell) => cell.failures))
  const drawn = cells.filter(({ processes }) => processes === Math.min(2, cells.at(-1)?.processes ?? 1))
  const sizes = [...new Set(drawn.map(({ requests }) => requests))]
  // The library has the first color.
  const contenders = [...new Set([OURS, ...drawn.map(({ contender }) => contender)] as const)]
  const p99 = (contender: ContenderName, size: number) =>
    drawn.find((cell) => cell.contender === contender && cell.requests === size)?.p99 ?? null
  return {
    rows: cells.map(({ contender, ...cell }) => ({
      app: NAMES[contender] ?? contender,
      processes: cell.processes,
      requests: cell.requests,
      refreshes: cell.refreshes,
      failures: cell.failures,
      'p50 ms': cell.p50,
      'p99 ms': cell.p99,
      'p99, times the limit': cell.ratio,
      'still logged in': cell.lives,
    })),
    reach: [
      { text: `session-token-manager refreshes once in each storm`, holds: one },
      { text: `its requests that failed: ${failures}, at most 0`, holds: failures === 0 },
      {
        text: `its p99: ${worst.toFixed(2)} times the limit where it is worst, at most ${MOST}`,
        holds: worst <= MOST,
      },
    ],
    chart: {
      kind: 'lines',
      title: 'Requests at once on one expired session, two processes with Redis',
      unit: 'p99 in ms; the authorization server takes 50 ms',
      over: 'requests at once',
      labels: sizes.map((size) => size.toLocaleString('en')),
      series: contenders.map((contender) => ({
        name: NAMES[contender] ?? contender,
        values: sizes.map((size) => p99(contender, size)),
      })),
      logarithmic: true,
    },
    notes: [
      'Sessions are in Redis, except those of the peers that have their own. Each storm is on a session of its own, over connections that are open.',
      'Times are medians of the rounds, refreshes and failures the most of a round. "Still logged in": sessions that get a token after the next expiry.',
      'A refresh is two round trips to the grant store, one for the lease and one for the commit, in Redis and in PostgreSQL. PostgreSQL waits for its disk twice.',
      'The authorization server rotates refresh tokens, and a second use of one ends the grant.',
      ...(peers
        ? ['better-auth is measured in one process, with its memory adapter.']
        : ['express-openid-connect and better-auth take part with --peers.']),
    ],
  }
}

import { setTimeout as delay } from 'node:timers/promises'
import type { Benchmark, RunOptions } from './harness/benchmark.js'
import { percentile } from './harness/load.js'
import { type Asked, type Browser, Browsers } from './load/browsers.js'
import { startSite, startTokenEndpoint } from './load/processes.js'
import type { Memory } from './load/site.js'
import type { TokenEndpointCounts, TokenEndpointState } from './load/token-endpoint.js'

const SERVER_MS = 20
const HOUR_MS = 3_600_000
/** How many requests for a token are under way when all sessions ask. */
const PARALLEL = 500
/** After this time the sessions count as not refreshed. */
const RECOVERY_MS = 120_000

interface Sizes {
  readonly sessions: number
  /** How long after the common refresh all tokens expire. */
  readonly lifetimeMs: number
  /** How long the server fails. This begins when a quarter of the lifetime is left. */
  readonly outageMs: number
  /** How often each session requests a token in this time. */
  readonly everyMs: number
}

const QUICK: Sizes = { sessions: 500, lifetimeMs: 6_000, outageMs: 12_000, everyMs: 2_000 }
const WHOLE: Sizes = { sessions: 10_000, lifetimeMs: 60_000, outageMs: 30_000, everyMs: 20_000 }

type Fault = Exclude<TokenEndpointState['mode'], 'up'>

/** An authorization server that fails while the tokens of many sessions expire. */
export const benchmark: Benchmark = {
  name: 'outage',
  title: 'Outage: many tokens expire in one second, and the authorization server fails',
  async run({ quick, progress }) {
    const sizes = quick ? QUICK : WHOLE
    const seconds = sizes.outageMs / 1000
    const faults = [
      [`503 for ${seconds} s`, 'down'],
      [`silent for ${seconds} s`, 'silent'],
    ] as const
    const results: Outage[] = []
    for (const [server, fault] of faults)
      results.push(await measure(server, fault, sizes, (text) => progress(`${server}, ${text}`)))
    const sum = (of: (result: Outage) => number) => results.reduce((total, result) => total + of(result), 0)
    const heapGrowth = Math.max(...results.map(({ heap }) => heap.after / heap.before))
    const mostProbes = Math.max(...results.map((result) => result.mostProbes))
    return {
      rows: results.map(rowOf),
      reach: [
        zero(
          'requests failed though their token was valid',
          sum(({ withheld }) => withheld),
        ),
        zero(
          'users were logged out',
          sum(({ loggedOut }) => loggedOut),
        ),
        zero(
          'refresh tokens were presented twice after their use',
          sum(({ reused }) => reused),
        ),
        {
          text: `the heap does not grow over an outage: ${heapGrowth.toFixed(2)} times`,
          holds: heapGrowth < 1.25,
        },
        {
          text: `one probe a second at a server that is down: at most ${mostProbes}`,
          holds: mostProbes <= 2,
        },
      ],
      chart: {
        kind: 'lines',
        title: 'Requests at an authorization server that fails',
        unit: `requests a second; ${sizes.sessions.toLocaleString('en')} sessions, 200 refreshes at a time`,
        over: 'seconds since the beginning of the outage',
        labels: Array.from({ length: seconds }, (_, second) => (second % 5 === 0 ? String(second) : '')),
        series: results.map(({ server, bySecond }) => ({
          name: server,
          values: Array.from({ length: seconds }, (_, second) => bySecond[second] || null),
        })),
        logarithmic: true,
      },
      notes: [
        `One process, sessions and grants in its memory. All tokens expire in one second, ${sizes.lifetimeMs / 4000} s after the beginning of the outage. Each session requests a token every ${sizes.everyMs / 1000} s.`,
        `before, after: the time until every session has a new token, ${PARALLEL} requests at a time, while the server works and when it is back. A request to a silent server is given up after timeoutMs, 10 s.`,
        'most a second: token requests while the server fails, from 2 s after the breaker has opened. A silent server keeps the first ones for timeoutMs, 10 s.',
        'waits: the p99 of the requests that got a token while the server failed; a session whose token is valid waits for patienceMs, 1 s, at most.',
        'MB: the RSS of the process before the refreshes, and the highest while the server works and while it fails. heap: in MB after a garbage collection, before and after the outage.',
      ],
    }
  },
}

interface Outage {
  readonly server: string
  readonly sessions: number
  /** While the server worked, and when it was back. */
  readonly refreshed: Readonly<Record<'before' | 'after', Refreshed>>
  readonly connections: number
  readonly bySecond: readonly number[]
  /** The most requests at the server in a second, when the breaker was open. */
  readonly mostProbes: number
  readonly withheld: number
  readonly loggedOut: number
  readonly reused: number
  /** The p99 of the requests with a valid token during the outage. */
  readonly waitMs: number
  /** Before the refreshes, and the highest while the server works and while it fails. */
  readonly rss: Readonly<Record<'before' | 'working' | 'failing', number>>
  /** After a garbage collection. */
  readonly heap: Readonly<Record<'before' | 'after', number>>
}

async function measure(
  server: string,
  fault: Fault,
  { sessions, lifetimeMs, outageMs, everyMs }: Sizes,
  progress: RunOptions['progress'],
): Promise<Outage> {
  // When all have logged in, the tokens of all have expired.
  const endpoint = await startTokenEndpoint({ latencyMs: SERVER_MS, lifetimeMs: 1_000 })
  const site = await startSite(endpoint, {})
  const browsers = new Browsers([site.port])
  const memory = () => site.ask<Memory>('memory')
  try {
    progress(`${sessions} logins`)
    await browsers.logIn(sessions)
    await delay(1_000)
    const before = await memory()

    progress('all refresh, the server works')
    const expiresAt = Math.ceil((Date.now() + lifetimeMs) / 1000) * 1000
    await endpoint.ask('set', { expiresAt })
    await endpoint.ask('reset')
    const refreshBefore = await refreshAll(browsers, 0)
    const refreshing = await memory()
    const healthy = await endpoint.ask<TokenEndpointCounts>('counts')

    await delay(expiresAt - lifetimeMs / 4 - Date.now())
    progress('the server fails')
    await endpoint.ask('set', { mode: fault })
    await endpoint.ask('reset')
    const loading = browsers.constantLoad(outageMs, everyMs)
    await delay(outageMs)
    const failing = await endpoint.ask<TokenEndpointCounts>('counts')
    const during = await memory()

    progress('the server is back')
    await endpoint.ask('set', { mode: 'up', expiresAt: Date.now() + HOUR_MS })
    const refreshAfter = await refreshAll(browsers, expiresAt)
    const asked = [...refreshBefore.asked, ...(await loading), ...refreshAfter.asked]
    const last = await endpoint.ask<TokenEndpointCounts>('counts')
    const after = await memory()
    return {
      server,
      sessions,
      refreshed: { before: refreshBefore, after: refreshAfter },
      connections: Math.max(healthy.mostConnections, last.mostConnections),
      bySecond: failing.bySecond,
      mostProbes: Math.max(0, ...failing.bySecond.slice(fault === 'silent' ? 12 : 2)),
      withheld: asked.filter(({ isWithheld }) => isWithheld).length,
      loggedOut: asked.filter(({ status }) => status === 401).length,
      reused: healthy.reused + last.reused,
      waitMs: percentile(
        (await loading).flatMap(({ ms, status }) => (status === 200 ? [ms] : [])),
        99,
      ),
      rss: { before: before.rss, working: refreshing.peakRss, failing: during.peakRss },
      heap: { before: refreshing.heapUsed, after: after.heapUsed },
    }
  } finally {
    browsers.close()
    await Promise.all([site.stop(), endpoint.stop()])
  }
}

interface Refreshed {
  /** The time until 99 % of the sessions had new tokens, and until all had them, in milliseconds. */
  readonly mostMs: number
  readonly allMs: number
  readonly asked: readonly Asked[]
}

/** Has all sessions ask until each has a token that expires later. */
async function refreshAll(browsers: Browsers, expiresLater: number): Promise<Refreshed> {
  const startedAt = performance.now()
  const sinceStart = () => performance.now() - startedAt
  const { all } = browsers
  const asked: Asked[] = []
  const isDone = ({ expiresAt }: Browser) => expiresAt > Math.max(expiresLater, Date.now())
  let mostMs = Number.POSITIVE_INFINITY
  const noteMost = () => {
    const done = all.filter(isDone).length
    if (done >= all.length * 0.99) mostMs = Math.min(mostMs, sinceStart())
  }
  const watching = setInterval(noteMost, 50)
  try {
    for (;;) {
      const left = all.filter((browser) => !isDone(browser))
      noteMost()
      if (left.length === 0) return { mostMs, allMs: sinceStart(), asked }
      if (sinceStart() > RECOVERY_MS) return { mostMs, allMs: Number.POSITIVE_INFINITY, asked }
      asked.push(
        ...(await browsers.askAll(
          PARALLEL,
          left.filter(({ isAsking }) => !isAsking),
        )),
      )
      if (left.some((browser) => !isDone(browser))) await delay(100)
    }
  } finally {
    clearInterval(watching)
  }
}

function zero(what: string, count: number) {
  return { text: `0 ${what}: ${count}`, holds: count === 0 }
}

const megabytes = (bytes: number) => Math.round(bytes / 1024 / 1024)

function rowOf({
  server,
  sessions,
  refreshed,
  connections,
  mostProbes,
  withheld,
  loggedOut,
  waitMs,
  rss,
  heap,
}: Outage) {
  return {
    server,
    sessions,
    'before s': refreshed.before.allMs / 1000,
    'after, 99 % s': refreshed.after.mostMs / 1000,
    'after s': refreshed.after.allMs / 1000,
    connections,
    'most a second': mostProbes,
    'valid, but failed': withheld,
    'logged out': loggedOut,
    'waits, ms': waitMs,
    'MB before': megabytes(rss.before),
    'MB works': megabytes(rss.working),
    'MB fails': megabytes(rss.failing),
    'heap before': megabytes(heap.before),
    'heap after': megabytes(heap.after),
  }
}

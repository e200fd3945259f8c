/**
 * What `bearerProxy()` costs a request over kept connections, beside http-proxy-middleware and beside the least that a
 * proxy does: `http.request()` and two pipes.
 */
import { type IncomingMessage, request as requestOf } from 'node:http'
import type { ProxyName } from './contenders/proxies.js'
import type { Benchmark, BenchmarkResult, RunOptions } from './harness/benchmark.js'
import { type Client, client, logIn, median, percentile, repeat } from './harness/load.js'
import { type BenchServer, startServer } from './harness/servers.js'

const NAMES: readonly ProxyName[] = [
  'pipe',
  'bearerProxy()',
  'pipe, in an app',
  'http-proxy-middleware, in an app',
  'bearerProxy(), in an app',
]
const [PIPE, PEER, OURS] = [NAMES[2]!, NAMES[3]!, NAMES[4]!]
const PARALLEL = 16
/** About what a browser sends. */
const HEADERS = {
  accept: 'application/json, text/plain, */*',
  'accept-encoding': 'gzip, deflate, br, zstd',
  'accept-language': 'en-US,en;q=0.9',
  'sec-ch-ua': '"Chromium";v="140", "Not=A?Brand";v="24"',
  'sec-ch-ua-mobile': '?0',
  'sec-ch-ua-platform': '"Linux"',
  'sec-fetch-dest': 'empty',
  'sec-fetch-mode': 'cors',
  'sec-fetch-site': 'same-origin',
  referer: 'https://app.example.com/orders',
  'user-agent':
    'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36',
}
const MEGABYTE = Buffer.alloc(1_000_000, 'a')

interface Work {
  readonly bodies: string
  readonly path: string
  readonly sent?: Buffer
  readonly requests: number
}

interface Site {
  readonly name: ProxyName
  readonly server: BenchServer
  readonly browser: Client
}

/** One round of requests. */
interface Round {
  readonly perSecond: number
  readonly p99: number
  readonly cpu: number
}

export const benchmark: Benchmark = {
  name: 'proxy',
  title: 'Requests through the proxy, over kept connections',
  run: compare,
}

async function compare({ quick, progress }: RunOptions): Promise<BenchmarkResult> {
  const [warmUps, rounds] = quick ? [1, 2] : [2, 9]
  const works: readonly Work[] = [
    { bodies: 'small', path: '/api/orders?open=1', requests: quick ? 200 : 3000 },
    { bodies: '1 MB response', path: '/api/large', requests: quick ? 16 : 160 },
    { bodies: '1 MB request', path: '/api/upload', sent: MEGABYTE, requests: quick ? 16 : 160 },
  ]
  const sites = await startSites()
  const results = []
  for (const work of works) {
    const measured = sites.map((site) => ({ ...site, rounds: [] as Round[] }))
    for (let round = -warmUps; round < rounds; round++) {
      progress(`${work.bodies}, ${round < 0 ? 'warming up' : `round ${round + 1} of ${rounds}`}`)
      for (const site of measured) {
        const result = await measure(site, work)
        if (round >= 0) site.rounds.push(result)
      }
    }
    const cellOf = (name: ProxyName) => measured.find((site) => site.name === name)!.rounds
    const rates = (of: readonly Round[], base: ProxyName) =>
      median(of.map(({ perSecond }, round) => perSecond / cellOf(base)[round]!.perSecond))
    const costs = (of: readonly Round[], base: ProxyName) =>
      median(of.map(({ cpu }, round) => cpu / cellOf(base)[round]!.cpu))
    for (const { name, rounds: of } of measured) {
      const base = name.endsWith('app') ? PIPE : 'pipe'
      results.push({
        proxy: name,
        bodies: work.bodies,
        'requests/s': median(of.map(({ perSecond }) => perSecond)),
        'p99 ms': median(of.map(({ p99 }) => p99)),
        'CPU µs': median(of.map(({ cpu }) => cpu)),
        'CPU, times the pipe': costs(of, base),
        'times the pipe': rates(of, base),
        'times http-proxy-middleware': name === OURS ? rates(of, PEER) : '',
      })
    }
  }
  return resultOf(works, results)
}

interface Row extends Record<string, string | number> {
  readonly proxy: ProxyName
  readonly bodies: string
  readonly 'requests/s': number
  readonly 'times the pipe': number
  readonly 'times http-proxy-middleware': number | string
}

function resultOf(works: readonly Work[], rows: readonly Row[]): BenchmarkResult {
  const least = (key: 'times the pipe' | 'times http-proxy-middleware') =>
    Math.min(...rows.filter(({ proxy }) => proxy === OURS).map((row) => Number(row[key])))
  const [ofPeer, ofPipe] = [least('times http-proxy-middleware'), least('times the pipe')]
  return {
    rows,
    reach: [
      {
        text: `requests a second, times http-proxy-middleware: ${ofPeer.toFixed(2)}, at least 1`,
        holds: ofPeer >= 1,
      },
      {
        text: `requests a second, times the pipe: ${ofPipe.toFixed(2)}, at least 0.75`,
        holds: ofPipe >= 0.75,
      },
    ],
    chart: {
      kind: 'bars',
      title: 'Requests a second through a proxy in an app with sessions',
      unit: 'times those of a bare http.request() pipe in the same app',
      labels: works.map(({ bodies }) => bodies),
      series: [OURS, PEER, PIPE].map((name) => ({
        name: name.replace(', in an app', ''),
        values: works.map(
          ({ bodies }) =>
            rows.find((row) => row.proxy === name && row.bodies === bodies)?.['times the pipe'] ?? null,
        ),
      })),
    },
    notes: [
      'In an app: Express with express-session; http-proxy-middleware sends the token that the session holds and refreshes none.',
      'Ratios of requests a second, medians of rounds in which the proxies take turns; each is compared with the pipe in the same surroundings.',
    ],
  }
}

async function startSites(): Promise<Site[]> {
  const url = new URL('./contenders/proxies.ts', import.meta.url).href
  const api = await startServer(url, ['api'])
  const sites: Site[] = []
  for (const name of NAMES) {
    const server = await startServer(url, [name, `http://127.0.0.1:${api.port}`])
    const browser = client(server.port, PARALLEL)
    if (name.endsWith('app')) await logIn(browser)
    sites.push({ name, server, browser })
  }
  return sites
}

async function measure({ server, browser }: Site, { path, sent, requests }: Work): Promise<Round> {
  const times: number[] = []
  const cpu = await server.cpuTime()
  const startedAt = performance.now()
  await repeat(requests, PARALLEL, async () => {
    const sentAt = performance.now()
    const { statusCode } = await ask(browser, path, sent)
    if (statusCode !== 200) throw new Error(`status ${statusCode}`)
    times.push(performance.now() - sentAt)
  })
  const seconds = (performance.now() - startedAt) / 1000
  const spent = (await server.cpuTime()) - cpu
  return { perSecond: requests / seconds, p99: percentile(times, 99), cpu: spent / requests }
}

function ask({ port, agent, cookie }: Client, path: string, sent?: Buffer): Promise<IncomingMessage> {
  const headers = { ...HEADERS, ...(cookie && { cookie }), ...(sent && { 'content-length': sent.length }) }
  const options = { host: '127.0.0.1', port, agent, path, headers, method: sent ? 'POST' : 'GET' }
  return new Promise((resolve, reject) => {
    requestOf(options, (response) => {
      response
        .resume()
        .on('end', () => resolve(response))
        .on('error', reject)
    })
      .on('error', reject)
      .end(sent)
  })
}

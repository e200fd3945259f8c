/*
 * The trace of one refresh over two processes: npm run build && npx tsx examples/trace/main.ts
 *
 * Two processes of one app share their sessions and their grants through Redis: the redis-server that is on PATH, or the Redis
 * that REDIS_URL names. Ten requests of one session come to each at the same moment, and the access token has expired. One
 * process refreshes; the other one waits for the lease and gets the result. OpenTelemetry shows both.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { openRedis, RedisMissing, untilUp } from '../cluster/redis.js'
import { listen, type Server } from '../demo/server.js'
import { printTrace, type TracedSpan } from './print-trace.js'

const REQUESTS = 10
/** How long the token endpoint takes. */
const RESPONSE_MS = 150

interface Worker {
  readonly url: string
  readonly spans: TracedSpan[]
  stop(): Promise<void>
}

try {
  await run()
} catch (error) {
  if (!(error instanceof RedisMissing)) throw error
  console.error(error.message)
  process.exitCode = 1
}

async function run(): Promise<void> {
  const redis = await openRedis()
  // A younger Redis may have forgotten leases, so the first refresh would wait.
  await untilUp(redis, 5)
  const server = await tokenEndpoint()
  const prefix = `trace:${randomBytes(4).toString('hex')}:`
  const settings = { redis: redis.address, prefix, tokenEndpoint: `${server.url}/token` }
  const workers = await Promise.all([1, 2].map((n) => startWorker({ ...settings, name: `process ${n}` })))

  const [first] = workers as [Worker]
  const login = await fetch(`${first.url}/login`, { method: 'POST' })
  const cookie = login.headers.getSetCookie()[0]!.split(';')[0]!
  // One trace, as a browser or a gateway with tracing would begin it (W3C Trace Context).
  const trace = randomBytes(16).toString('hex')
  const traceparent = `00-${trace}-${randomBytes(8).toString('hex')}-01`
  const asked = Array.from({ length: REQUESTS }, () =>
    workers.map(({ url }) => fetch(`${url}/orders`, { headers: { cookie, traceparent } })),
  )
  const statuses = (await Promise.all(asked.flat())).map(({ status }) => status)

  await Promise.all(workers.map(({ stop }) => stop()))
  await Promise.all([server.close(), redis.close()])
  const spans = workers.flatMap(({ spans }) => spans).filter(({ traceId }) => traceId === trace)
  const succeeded = statuses.filter((status) => status === 200).length
  console.log(`${succeeded} of ${statuses.length} requests succeeded, with ${server.refreshes()} refresh.\n`)
  printTrace(trace, spans)
}

/** A token endpoint that takes its time, and accepts each refresh token once. */
async function tokenEndpoint(): Promise<Pick<Server, 'url' | 'close'> & { refreshes(): number }> {
  const server = await listen(0)
  let serial = 1
  server.use(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    const isNewest = new URLSearchParams(body).get('refresh_token') === `refresh-token-${serial}`
    if (isNewest) serial += 1
    await delay(RESPONSE_MS)
    response.writeHead(isNewest ? 200 : 400, { 'content-type': 'application/json' })
    const tokens = {
      ...{ access_token: `access-token-${serial}`, token_type: 'Bearer', expires_in: 3_600 },
      refresh_token: `refresh-token-${serial}`,
    }
    response.end(JSON.stringify(isNewest ? tokens : { error: 'invalid_grant' }))
  })
  return { url: server.url, close: server.close, refreshes: () => serial - 1 }
}

async function startWorker(settings: object): Promise<Worker> {
  const child: ChildProcess = fork(join(import.meta.dirname, 'worker.ts'), {
    env: { ...process.env, SETTINGS: JSON.stringify(settings) },
  })
  const [url] = (await once(child, 'message')) as [string]
  const spans: TracedSpan[] = []
  child.on('message', (span) => spans.push(span as TracedSpan))
  return {
    url,
    spans,
    async stop() {
      child.send('stop')
      await once(child, 'exit')
    },
  }
}

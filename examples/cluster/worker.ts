import cluster from 'node:cluster'
import { get } from 'node:http'
import { RedisStore } from 'connect-redis'
import express, { type NextFunction, type Request, type Response } from 'express'
import { createClient } from 'redis'
import { redisGrantStore } from 'session-token-manager/redis'
import { type BffOptions, bff, fromOwnPage } from '../demo/bff.js'
import { listen } from '../demo/server.js'
import { site } from '../demo/site.js'
import { without } from '../demo/without.js'
import type { RedisAddress } from './redis.js'

/** The options that a worker gets from the primary process. */
export interface WorkerOptions {
  readonly bff: BffOptions
  readonly redis: RedisAddress
  /** The beginning of the keys in Redis. */
  readonly prefix: string
  /** The primary process, which has the time line and the workers. */
  readonly primary: string
}

const HOUR_SECONDS = 3_600

const name = `worker ${cluster.worker?.id}`
// A terminal's Ctrl-C reaches every process; the primary process stops the workers.
process.on('SIGINT', () => {})
await serve(JSON.parse(process.env.WORKER_OPTIONS ?? '{}'))

async function serve(options: WorkerOptions): Promise<void> {
  const { prefix, redis } = options
  const client = createClient({ ...redis })
  client.on('error', (error) => console.error(`${name}: Redis: ${error.message}`))
  await client.connect()

  const grants = redisGrantStore(client, {
    prefix: `${prefix}grants:`,
    grantTtlMs: 1000 * HOUR_SECONDS,
  })
  const store = new RedisStore({ client, prefix: `${prefix}sessions:`, ttl: HOUR_SECONDS })
  const backend = bff(options.bff, {
    session: { store },
    tokens: { grants, http: { headers: { 'User-Agent': name } } },
  })

  const app = express()
  app.use(sign)
  app.post('/workers/:name/kill', fromOwnPage, async (req, res) => {
    await fetch(`${options.primary}${req.path}`, { method: 'POST' })
    res.sendStatus(204)
  })
  app.use(
    site({
      url: options.bff.url,
      bff: backend.app,
      without: await without(options.bff, { session: { store } }),
      timeline: (login = '', res) => forward(`${options.primary}/timeline?login=${login}`, res),
    }),
  )
  const server = await listen(Number(new URL(options.bff.url).port))
  if (server.url !== options.bff.url) throw new Error(`${options.bff.url} was taken meanwhile. Try again.`)
  server.use(app)

  process.once('message', async () => {
    await server.close()
    // Waits until the tokens of refreshes under way are stored.
    await backend.close()
    await grants.close()
    await client.close()
    process.disconnect()
  })
}

/** Names the worker in each response, and closes each connection, so that the next request goes to the next worker. */
function sign(_req: Request, res: Response, next: NextFunction): void {
  res.set({ 'X-Answered-By': name, Connection: 'close' })
  next()
}

function forward(url: string, res: Response): void {
  const request = get(url, (response) => {
    res.set({ 'Content-Type': response.headers['content-type'], 'Cache-Control': 'no-store' })
    response.pipe(res)
  })
  request.on('error', () => res.destroy())
  res.on('close', () => request.destroy())
}

import { randomBytes } from 'node:crypto'
import express, { type Express } from 'express'
import type { Demo } from '../demo/demo.js'
import { listen } from '../demo/server.js'
import { setStage } from '../demo/stage.js'
import { type SendTimeline, timelineFeed } from '../demo/timeline-feed.js'
import { type Door, frontDoor } from './door.js'
import { openRedis, type Redis } from './redis.js'
import { startTeam, type Team } from './team.js'

export interface ClusterOptions {
  /** Where the page is served; another port if this one is taken. */
  readonly port: number
  readonly accessTokenSeconds: number
  /** How long a request to the token endpoint is under way, in milliseconds. Default: 0. */
  readonly latencyMs?: number
  /** The number of workers. */
  readonly workers: number
}

/** A demo whose app runs in several processes. */
export interface Cluster extends Demo {
  readonly redis: Redis
  readonly team: Team
  /** The token endpoint's. */
  readonly door: Door
}

export async function startCluster({ port, workers, ...options }: ClusterOptions): Promise<Cluster> {
  const redis = await openRedis()
  const door = frontDoor()
  const url = await freeUrl(port)
  const stage = await setStage({ siteUrl: url, door: door.guard, ...options })
  const { timeline, provider, client } = stage
  const primary = await listen(0)
  const feed = timelineFeed(timeline)
  const team = await startTeam(workers, {
    bff: stage.bff,
    redis: redis.address,
    prefix: `demo:${randomBytes(8).toString('hex')}:`,
    primary: primary.url,
  })
  primary.use(primaryApp(team, feed.send))

  return {
    url,
    timeline,
    provider,
    client,
    redis,
    team,
    door,
    async close() {
      feed.close()
      // The workers stop first, since their last requests need the other servers.
      await team.close()
      await Promise.all([primary.close(), stage.close()])
      await redis.close()
    },
  }
}

/** What the workers ask the primary process for. */
function primaryApp(team: Team, timeline: SendTimeline): Express {
  const app = express()
  app.get('/timeline', (req, res) => {
    timeline(String(req.query.login), res)
    const unfollow = team.follow((names) => res.write(`event: workers\ndata: ${JSON.stringify(names)}\n\n`))
    res.on('close', unfollow)
  })
  app.post('/workers/:name/kill', async (req, res) => {
    await team.kill(req.params.name)
    res.end()
  })
  return app
}

/** Finds a free address for the workers to listen on. */
async function freeUrl(port: number): Promise<string> {
  const server = await listen(port)
  await server.close()
  return server.url
}

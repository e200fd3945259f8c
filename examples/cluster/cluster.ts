import { randomBytes } from 'node:crypto'
import express from 'express'
import type { Demo } from '../demo/demo.js'
import { listen } from '../demo/server.js'
import { setStage } from '../demo/stage.js'
import { timelineFeed } from '../demo/timeline-feed.js'
import { type Door, frontDoor } from './door.js'
import { openRedis, type Redis } from './redis.js'
import { startTeam, type Team } from './team.js'

export interface ClusterOptions {
  /** Where the page is served; another port if this one is taken. */
  readonly port: number
  readonly accessTokenSeconds: number
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

export async function startCluster({ port, accessTokenSeconds, workers }: ClusterOptions): Promise<Cluster> {
  const redis = await openRedis()
  const door = frontDoor()
  const url = await freeUrl(port)
  const stage = await setStage({ siteUrl: url, accessTokenSeconds, door: door.guard })
  const { timeline, provider, client } = stage
  const timelineServer = await listen(0)
  const feed = timelineFeed(timeline)
  timelineServer.use(express().use(feed))
  const team = await startTeam(workers, {
    bff: stage.bff,
    redis: redis.address,
    prefix: `demo:${randomBytes(8).toString('hex')}:`,
    timeline: timelineServer.url,
  })

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
      await Promise.all([timelineServer.close(), stage.close()])
      await redis.close()
    },
  }
}

/** Finds a free address for the workers to listen on. */
async function freeUrl(port: number): Promise<string> {
  const server = await listen(port)
  await server.close()
  return server.url
}

import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'

/** What a Redis was asked, by its own count. */
export interface RedisCounts {
  /** How many scripts the server has run since the last call of `forget()`. */
  scripts(): Promise<number>
  forget(): Promise<void>
  /** How many connections the server has, besides the one that counts. */
  connections(): Promise<number>
  /** Resolves when so many connections listen to a channel. */
  subscribers(channel: string, count: number): Promise<void>
  readonly redis: Redis
  close(): void
}

export function redisCounts(url: string): RedisCounts {
  const redis = new Redis(url)
  const scripts = async () => {
    const stats = await redis.info('commandstats')
    const calls = [...stats.matchAll(/^cmdstat_eval(?:sha)?:calls=(\d+)/gm)].map(([, count]) => Number(count))
    return calls.reduce((sum, count) => sum + count, 0)
  }
  const connections = async () => {
    const [, count] = /^connected_clients:(\d+)/m.exec(await redis.info('clients')) ?? []
    return Number(count) - 1
  }
  return {
    redis,
    scripts,
    connections,
    forget: async () => void (await redis.config('RESETSTAT')),
    async subscribers(channel, count) {
      const present = async () => Number(((await redis.pubsub('NUMSUB', channel)) as [string, number])[1])
      while ((await present()) !== count) await delay(10)
    },
    close: () => redis.disconnect(),
  }
}

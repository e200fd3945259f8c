import { beforeAll } from '@jest/globals'
import { describeSessionLayer } from '../contract/session-layer.js'
import { describeStoredSessionLayer } from '../contract/stored-session-layer.js'
import { expressFileLayer, expressPostgresLayer, expressRedisLayer } from '../helpers/express-stores.js'
import { koaVersions } from '../helpers/koa-site.js'
import { describeWithPostgres } from '../helpers/postgres.js'
import { describeWithRedis, redisUrl } from '../helpers/redis.js'
import { expressMemoryLayer, koaCookieLayer, koaStoreLayer } from '../helpers/session-layers.js'

// A server of the tests' own takes a while to start; where there is none, its tests say so.
beforeAll(() => void redisUrl().catch(() => {}))

describeStoredSessionLayer(expressMemoryLayer)
describeStoredSessionLayer(expressFileLayer)
await describeWithPostgres('PostgreSQL', (pool) => describeStoredSessionLayer(expressPostgresLayer(pool)))
// S29
for (const [name, Koa] of koaVersions) {
  describeStoredSessionLayer(koaStoreLayer(`koa-session with a store, on ${name}`, { Koa }))
  describeSessionLayer(koaCookieLayer(`koa-session in cookies, on ${name}`, { Koa }))
}
describeStoredSessionLayer(
  koaStoreLayer('koa-session with a store that hands out what it holds', { references: true }),
)
describeWithRedis('Redis', () => describeStoredSessionLayer(expressRedisLayer()))

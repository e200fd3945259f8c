import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { describeCookieSessionLayer } from '../contract/cookie-session-layer.js'
import { asTested, matrix } from '../contract/layer-matrix.js'
import { describeOwnSessionLayer } from '../contract/own-session-layer.js'
import { describeForgedSessions } from '../contract/session-layer-fuzz.js'
import { describeStoredSessionLayer } from '../contract/stored-session-layer.js'
import { cookieSessionLayer, ironSessionLayer } from '../helpers/express-cookies.js'
import { expressFileLayer, expressPostgresLayer, expressRedisLayer } from '../helpers/express-stores.js'
import { koaSession6, koaVersions } from '../helpers/koa-site.js'
import { ownSessionLayer } from '../helpers/own-sessions.js'
import { describeWithPostgres } from '../helpers/postgres.js'
import { describeWithRedis, redisUrl } from '../helpers/redis.js'
import { expressMemoryLayer, koaCookieLayer, koaStoreLayer } from '../helpers/session-layers.js'

function describeExpressStore(driver: ReturnType<typeof expressRedisLayer>): void {
  describeStoredSessionLayer(driver)
  describeForgedSessions(driver)
}

// A server of the tests' own takes a while to start; where there is none, its tests say so.
beforeAll(() => void redisUrl().catch(() => {}))

describeExpressStore(expressMemoryLayer)
describeExpressStore(expressFileLayer)
await describeWithPostgres('connect-pg-simple', (pool) => describeExpressStore(expressPostgresLayer(pool)))

for (const driver of [cookieSessionLayer, ironSessionLayer]) {
  describeCookieSessionLayer(driver)
  describeForgedSessions(driver)
}

describeOwnSessionLayer(ownSessionLayer)
describeForgedSessions(ownSessionLayer)

// S29
for (const [name, Koa] of koaVersions) {
  describeStoredSessionLayer(koaStoreLayer(`koa-session 7 with a store, on ${name}`, { Koa }))
  describeCookieSessionLayer(koaCookieLayer(`koa-session 7 in cookies, on ${name}`, { Koa }))
}
describeStoredSessionLayer(
  koaStoreLayer('koa-session 6 with a store that hands out what it holds', {
    koaSession: koaSession6,
    references: true,
  }),
)
describeCookieSessionLayer(koaCookieLayer('koa-session 6 in cookies', { koaSession: koaSession6 }))
describeForgedSessions(koaStoreLayer('koa-session with a store', {}))
describeForgedSessions(koaCookieLayer('koa-session in cookies', {}))

describeWithRedis('connect-redis', () => describeExpressStore(expressRedisLayer()))

describe('the matrix of session layers and scenarios', () => {
  afterAll(() => void process.stderr.write(`\n${matrix()}\n\n`))

  it('is the table in docs/session-layers.md', () => {
    const page = readFileSync(join(import.meta.dirname, '../../docs/session-layers.md'), 'utf8')
    const [, table = ''] = /^## What the tests have shown\n.*?(^\|.*?\n\n1\. .*?)\n\n/ms.exec(page) ?? []
    // The matrix that is expected is to be pasted there.
    expect(asTested(table)).toBe(matrix())
  })
})

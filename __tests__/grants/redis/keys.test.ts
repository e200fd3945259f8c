import { randomBytes, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { createClient as createClient5 } from 'redis5'
import { ConfigurationError } from '../../../lib/index.js'
import { type RedisClient, type RedisGrantStoreOptions, redisGrantStore } from '../../../lib/redis.js'
import type { TokenSet } from '../../../lib/tokens/token-set.js'
import { describeLostLease } from '../../contract/lost-lease.js'
import { describeWithRedis, redisUrl } from '../../helpers/redis.js'

const request = { ttlMs: 60_000, waitMs: 0, revision: 0 }
const record = { revision: 1, tokens: 'tokens' }
const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS

let client: Redis

describeWithRedis('what redisGrantStore(client) keeps', () => {
  beforeAll(async () => {
    client = new Redis(await redisUrl())
  })
  const stores: ReturnType<typeof redisGrantStore>[] = []
  afterAll(async () => {
    await Promise.all(stores.map((store) => store.close()))
    client?.disconnect()
  })

  /** A grant of a store, and for how long its key is there. */
  function grantOf(options: RedisGrantStoreOptions = {}) {
    const store = redisGrantStore(client, { graceMs: 0, ...options })
    stores.push(store)
    const grant = randomUUID()
    const key = `${options.prefix ?? 'session-tokens:'}${grant}`
    const lease = (more = {}) => store.lease(grant, { ...request, owner: 'a', ...more })
    return { store, grant, key, lease, ttlMs: () => client.pttl(key) }
  }

  /** Commands take their time. */
  const expectAbout = (ttlMs: number, expectedMs: number) => {
    expect(ttlMs).toBeLessThanOrEqual(expectedMs)
    expect(ttlMs).toBeGreaterThan(expectedMs - 5_000)
  }

  describe('for how long', () => {
    it('is twice the time of a lease, of a grant without a record', async () => {
      const { lease, ttlMs } = grantOf()
      await lease()
      expectAbout(await ttlMs(), 2 * request.ttlMs)
    })

    it('grows with each renewal', async () => {
      const { store, grant, lease, ttlMs } = grantOf()
      await lease()
      await store.renew(grant, 'a', HOUR_MS)
      expectAbout(await ttlMs(), 2 * HOUR_MS)
    })

    it('is the time of a lease twice too, of a grant that is renewed first', async () => {
      const { store, grant, ttlMs } = grantOf()
      await store.renew(grant, 'a', 60_000)
      expectAbout(await ttlMs(), 120_000)
    })

    it.each([
      ['a day', {}, DAY_MS],
      ['grantTtlMs', { grantTtlMs: HOUR_MS }, HOUR_MS],
    ])('is %s from each commit', async (_, options, expectedMs) => {
      const { store, grant, key, lease, ttlMs } = grantOf(options)
      await lease()
      await store.commit(grant, 'a', record)
      expectAbout(await ttlMs(), expectedMs)
      await client.pexpire(key, 60_000)
      await store.commit(grant, 'a', { ...record, revision: 2 })
      expectAbout(await ttlMs(), expectedMs)
    })

    it('is not shortened by a lease, a renewal, a release or a commit of nothing new', async () => {
      const { store, grant, lease, ttlMs } = grantOf({ grantTtlMs: HOUR_MS })
      await store.commit(grant, 'a', record)
      await lease({ revision: 1 })
      await store.renew(grant, 'a', 1_000)
      await store.release(grant, 'a')
      await store.commit(grant, 'a', record)
      expectAbout(await ttlMs(), HOUR_MS)
    })

    it.each([
      ['a day', {}, DAY_MS],
      ['grantTtlMs', { grantTtlMs: HOUR_MS }, HOUR_MS],
    ])('is %s after the end, however long it was before', async (_, options, expectedMs) => {
      const { store, grant, ttlMs } = grantOf(options)
      await redisGrantStore(client, { grantTtlMs: 7 * DAY_MS }).commit(grant, 'a', record)
      await store.end(grant, 'logged_out')
      expectAbout(await ttlMs(), expectedMs)
    })

    it.each([
      ['the retention, where that is longer', 7 * DAY_MS, 7 * DAY_MS],
      ['grantTtlMs, where that is longer', 60_000, HOUR_MS],
    ])('is %s', async (_, retentionMs, expectedMs) => {
      const { store, grant, ttlMs } = grantOf({ grantTtlMs: HOUR_MS })
      await store.commit(grant, 'a', record, { ttlMs: retentionMs })
      expectAbout(await ttlMs(), expectedMs)
      await store.end(grant, 'logged_out', { ttlMs: retentionMs })
      expectAbout(await ttlMs(), expectedMs)
    })

    it('is not shortened by a second end', async () => {
      const { store, grant, ttlMs } = grantOf({ grantTtlMs: HOUR_MS })
      await store.end(grant, 'logged_out', { ttlMs: 7 * DAY_MS })
      await store.end(grant, 'replaced')
      expectAbout(await ttlMs(), 7 * DAY_MS)
    })

    it('is never for ever', async () => {
      const { store, grant, key, lease, ttlMs } = grantOf()
      await lease()
      await lease({ owner: 'b' })
      await store.release(grant, 'a')
      expect(await ttlMs()).toBeGreaterThan(0)
      expect(await client.exists(key)).toBe(1)
    })
  })

  describe('a grant that Redis does not know', () => {
    it('and that was refreshed a minute ago, waits for graceMs: it may have been lost', async () => {
      const { lease } = grantOf({ grantTtlMs: HOUR_MS, graceMs: 300 })
      const start = performance.now()
      expect(await lease({ waitMs: 5_000, idleMs: 60_000 })).toEqual({ granted: true })
      expect(performance.now() - start).toBeGreaterThanOrEqual(295)
    })

    it('and that has rested for longer than grantTtlMs, does not wait: it was forgotten', async () => {
      const { lease } = grantOf({ grantTtlMs: HOUR_MS, graceMs: HOUR_MS })
      expect(await lease({ waitMs: 0, idleMs: HOUR_MS + 1 })).toEqual({ granted: true })
    })

    it('leaves a lease that ran out to its holder for graceMs, however long the grant was idle', async () => {
      const { store, grant, lease } = grantOf({ grantTtlMs: HOUR_MS, graceMs: 300 })
      await lease({ ttlMs: 500, idleMs: 2 * HOUR_MS })
      expect(await lease({ owner: 'b', waitMs: 600, idleMs: 2 * HOUR_MS })).toEqual({ granted: false })
      expect(await store.renew(grant, 'a', 60_000)).toBe(true)
    })
  })

  describeLostLease(() => {
    const graceMs = 300
    const prefix = `${randomUUID()}:`
    const store = redisGrantStore(client, { prefix, graceMs })
    stores.push(store)
    return { store, graceMs, lose: (grant) => client.del(`${prefix}${grant}`) }
  })

  describe('a grant that was last leased in an earlier run of the server', () => {
    /** A store that has used this server for some seconds, or has just met it. */
    const fromEarlierRun = async (metForMs = 10_000) => {
      const made = grantOf({ graceMs: 300 })
      const now = jest.spyOn(performance, 'now').mockReturnValue(performance.now() - metForMs)
      await made.store.commit(made.grant, 'a', record).finally(() => now.mockRestore())
      await client.hset(made.key, 'run', '01234567')
      return made
    }
    it('waits for more than graceMs where the store has just met the server: a replica may have taken over', async () => {
      const { lease } = await fromEarlierRun(0)
      expect(await lease({ owner: 'b', waitMs: 600, revision: 1 })).toMatchObject({ granted: false })
    })

    it('does so at the very first request of the store', async () => {
      const { grant } = await fromEarlierRun()
      const store = redisGrantStore(client, { graceMs: 0 })
      stores.push(store)
      const first = { ...request, owner: 'b', revision: 1 }
      expect(await store.lease(grant, first)).toMatchObject({ granted: false })
    })

    const newer = { revision: 2, tokens: 'newer' }
    it('waits for graceMs after a commit without a lease: another process may know of a later refresh', async () => {
      const { store, grant, lease } = await fromEarlierRun()
      await store.commit(grant, 'b', newer)
      const start = performance.now()
      await lease({ owner: 'c', waitMs: 5_000, revision: 2 })
      expect(performance.now() - start).toBeGreaterThanOrEqual(295)
    })

    it('does not wait after the commit of a lease holder', async () => {
      const { store, grant, lease } = await fromEarlierRun()
      expect(await lease({ owner: 'b', waitMs: 5_000, revision: 1 })).toMatchObject({ granted: true })
      await store.commit(grant, 'b', newer)
      expect(await lease({ owner: 'c', revision: 2 })).toMatchObject({ granted: true })
    })
  })

  it('is one hash, without a trace of waiting processes, once it is committed', async () => {
    const { store, grant, key, lease } = grantOf()
    await lease()
    await lease({ owner: 'b' })
    expect(Object.keys(await client.hgetall(key)).sort()).toEqual(['owner', 'run', 'ttl', 'until', 'waiting'])
    await store.commit(grant, 'a', record)
    const [, run] = /run_id:(.{8})/.exec(await client.info('server'))!
    expect(await client.hgetall(key)).toEqual({ revision: '1', tokens: 'tokens', run })
    await store.end(grant, 'replaced')
    expect(await client.hgetall(key)).toEqual({ ended: 'replaced' })
  })

  it('is nothing but the end, whatever comes after it', async () => {
    const { store, grant, key, lease } = grantOf()
    await lease()
    await store.end(grant, 'logged_out')
    expect(await store.renew(grant, 'a', 60_000)).toBe(false)
    await lease()
    await store.commit(grant, 'a', record)
    await store.release(grant, 'a')
    expect(await client.hgetall(key)).toEqual({ ended: 'logged_out' })
  })

  it('is published only if a process waits', async () => {
    const { store, grant, lease } = grantOf()
    const published = async () =>
      Number(/^cmdstat_publish:calls=(\d+)/m.exec(await client.info('commandstats'))?.[1] ?? 0)
    const before = await published()
    await lease()
    await store.release(grant, 'a')
    await lease()
    await store.commit(grant, 'a', record)
    await store.end(grant, 'replaced')
    expect((await published()) - before).toBe(0)
  })

  it('is published to waiting processes at once when the grant ends', async () => {
    const { store, grant, lease } = grantOf({ prefix: `${randomUUID()}:` })
    await lease()
    const answer = lease({ owner: 'b', waitMs: 60_000 })
    // By then it listens.
    await lease({ owner: 'c', waitMs: 200 })
    const start = performance.now()
    await store.end(grant, 'logged_out')
    expect(await answer).toEqual({ granted: false, ended: 'logged_out' })
    // Much less than the second after which it would ask all the same.
    expect(performance.now() - start).toBeLessThan(600)
    await store.close()
  })

  it('is another grant under another prefix', async () => {
    const [one, other] = [grantOf({ prefix: 'one:' }), grantOf({ prefix: 'other:' })]
    await one.lease()
    await one.store.commit(one.grant, 'x', record)
    expect(await other.store.read(one.grant)).toEqual({})
    expect(await other.store.lease(one.grant, { ...request, owner: 'b' })).toEqual({ granted: true })
    await other.store.end(one.grant, 'logged_out')
    expect(await one.store.read(one.grant)).toEqual({ record })
    expect(await one.store.renew(one.grant, 'a', 1_000)).toBe(true)
  })

  it.each([
    ['ASCII', 'x'],
    ['of two bytes', 'ü'],
    ['of three bytes', '\u2028'],
    ['of four bytes', '🔑'],
    ['of every kind', '\u0000\u0001\n\r\t"\\\u007f\u0080ü߿ࠀ\ufeff\uffff𐀀🔑\u{10ffff}'],
  ])('is the text as it is, 8 KB of characters %s', async (_, characters) => {
    const { store, grant } = grantOf()
    const tokens = characters.repeat(Math.ceil(8_192 / Buffer.byteLength(characters)))
    await store.commit(grant, 'a', { revision: Number.MAX_SAFE_INTEGER, tokens })
    expect(await store.read(grant)).toEqual({ record: { revision: Number.MAX_SAFE_INTEGER, tokens } })
    expect(await store.end(grant, 'replaced')).toEqual({ revision: Number.MAX_SAFE_INTEGER, tokens })
  })

  describe('takes', () => {
    const text = (bytes: number) => randomBytes(bytes).toString('base64url')
    const jwt = () => `${text(90)}.${text(600)}.${text(256)}`
    const tokenSet = (refreshToken: string, token: string, idToken?: string): TokenSet => {
      const obtainedAt = Date.now()
      const accessToken = {
        token,
        tokenType: 'Bearer',
        scope: 'openid orders',
        obtainedAt,
        expiresAt: obtainedAt,
      }
      return {
        grantId: randomUUID(),
        revision: 12,
        refreshToken,
        accessTokens: [accessToken],
        ...(idToken !== undefined && { idToken }),
      }
    }

    it.each([
      ['opaque tokens', tokenSet(text(32), text(32)), 700],
      ['an access token and an ID token that are JWTs of 1.3 KB', tokenSet(text(32), jwt(), jwt()), 4_096],
    ])('for a session with %s', async (_, tokens, most) => {
      const { store, grant, key, lease } = grantOf()
      await lease()
      await store.commit(grant, 'a', { revision: tokens.revision, tokens: JSON.stringify(tokens) })
      const bytes = Number(await client.memory('USAGE', key))
      expect(bytes).toBeLessThanOrEqual(most)
      await store.end(grant, 'logged_out')
      expect(Number(await client.memory('USAGE', key))).toBeLessThanOrEqual(200)
    })
  })
})

describe('redisGrantStore(client, options)', () => {
  const client: RedisClient = { send: async () => '' }

  it.each([
    ['nothing', undefined],
    ['null', null],
    ['a URL', 'redis://127.0.0.1'],
    ['options', { host: '127.0.0.1' }],
  ])('names the clients that it accepts, given %s', (_, wrong) => {
    const call = () => redisGrantStore(wrong as never)
    expect(call).toThrow(ConfigurationError)
    expect(call).toThrow(/new Redis\(\) of ioredis, createClient\(\) of node-redis, or \{ send:/)
  })

  it('says to await the promise of a client', () => {
    const call = () => redisGrantStore(Promise.resolve(createClient()) as never)
    expect(call).toThrow(ConfigurationError)
    expect(call).toThrow('Await it: redisGrantStore(await createClient({ url }).connect()).')
  })

  it.each([
    ['5', createClient5()],
    ['6', createClient()],
  ])('says to connect a client of node-redis %s that was not', async (_, client) => {
    const store = redisGrantStore(client as RedisClient)
    await expect(store.read('grant')).rejects.toThrow(
      new ConfigurationError(
        'The client of node-redis is not connected. Connect it when the app starts: await client.connect().',
      ),
    )
    await store.close()
  })

  it.each<[wrong: object, message: string]>([
    [{ grantTTLMs: 1 }, 'redisGrantStore() has no option `grantTTLMs`. Did you mean `grantTtlMs`?'],
    [{ ttl: 1 }, 'redisGrantStore() has no option `ttl`. Did you mean `grantTtlMs`?'],
    [
      { lifetime: 1 },
      'redisGrantStore() has no option `lifetime`. Known are prefix, grantTtlMs, commandTimeoutMs, graceMs.',
    ],
    [{ prefix: '' }, "`prefix` must be a string that is not empty, e.g. prefix: 'session-tokens:'."],
    [{ prefix: 7 }, "`prefix` must be a string that is not empty, e.g. prefix: 'session-tokens:'."],
    ...[0, -1, 1.5, NaN, Infinity, '1000', null].map((ms): [object, string] => [
      { grantTtlMs: ms },
      '`grantTtlMs` must be a whole number of milliseconds from 1, e.g. grantTtlMs: 86400000.',
    ]),
    ...[0, 86_400_001, 2 ** 31].map((ms): [object, string] => [
      { commandTimeoutMs: ms },
      '`commandTimeoutMs` must be a whole number of milliseconds from 1 to 86400000, e.g. commandTimeoutMs: 2000.',
    ]),
    ...[-1, 86_400_001].map((ms): [object, string] => [
      { graceMs: ms },
      '`graceMs` must be a whole number of milliseconds from 0 to 86400000, e.g. graceMs: 1800.',
    ]),
    [
      { toString: 1 },
      'redisGrantStore() has no option `toString`. Known are prefix, grantTtlMs, commandTimeoutMs, graceMs.',
    ],
    ...[null, 'my-app:', 7].map((options): [object, string] => [
      options as never,
      "The options of redisGrantStore() must be an object: redisGrantStore(client, { prefix: 'my-app:tokens:' }).",
    ]),
  ])('rejects %j, with the cure', (wrong, message) => {
    expect(() => redisGrantStore(client, wrong)).toThrow(new ConfigurationError(message))
  })

  it.each([
    {},
    { prefix: undefined, grantTtlMs: undefined },
    { prefix: 'x', grantTtlMs: 1, commandTimeoutMs: 1 },
    { grantTtlMs: 365 * 86_400_000, commandTimeoutMs: 86_400_000, graceMs: 86_400_000 },
  ])('accepts %j', (options) => {
    expect(() => redisGrantStore(client, options as RedisGrantStoreOptions)).not.toThrow()
  })
})

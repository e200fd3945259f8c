import { once } from 'node:events'
import { afterAll, expect, it } from '@jest/globals'
import { Queue, QueueEvents, type Worker } from 'bullmq'
import { runAtInterval, runForAll } from '../../examples/jobs/interval.js'
import { addJob, startWorker, type UserJob } from '../../examples/jobs/queue.js'
import { describeWithRedis, redisUrl } from '../helpers/redis.js'
import { recordingGrants, sharedSessions } from '../helpers/site.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start, loggedIn } = await testSites()

/** A web process and a worker process of one app. */
async function app() {
  const grants = recordingGrants()
  const open = sharedSessions()
  const [web, worker] = await Promise.all([0, 1].map(() => start({ store: open(), tokens: { grants } })))
  web!.handle('/reference', async ({ tokens }) => ({ reference: await tokens.offlineReference() }))
  return { web: web!, worker: worker! }
}

describeWithRedis('a queue of BullMQ', () => {
  const closing: { close(): Promise<void> }[] = []
  afterAll(async () => {
    for (const one of closing.reverse()) await one.close()
  })

  it('S84 runs jobs with one refresh, tries again while the server fails, and not after a logout', async () => {
    const { port, hostname: host } = new URL(await redisUrl())
    const connection = { host, port: Number(port), maxRetriesPerRequest: null }
    const name = `export-${process.pid}`
    const queue = new Queue<UserJob>(name, { connection })
    const events = new QueueEvents(name, { connection })
    await events.waitUntilReady()
    const { web, worker } = await app()
    web.handle('/export', async ({ tokens }) => {
      await addJob(queue, tokens, '2026-11')
    })
    const tokens = new Set<string>()
    const started: Worker<UserJob> = startWorker(name, connection, worker.middleware, async (user) => {
      tokens.add((await user.getAccessToken()).token)
    })
    closing.push(queue, events, started)
    // The pause after the failure is over when the job is tried again.
    started.on('failed', () => worker.clock.advance(60_000))

    const tab = await loggedIn(web)
    for (const { clock } of [web, worker]) clock.advance(HOUR_MS)
    const refreshes = server.refreshes()
    const attempts = server.tokenRequests.length
    server.failNext(500)
    let finished = 0
    const completed = new Promise<void>((resolve) => {
      events.on('completed', () => {
        if (++finished === 3) resolve()
      })
    })
    for (let n = 0; n < 3; n++) expect((await tab.post('/export', {})).status).toBe(200)
    await completed
    expect(tokens.size).toBe(1)
    expect(server.refreshes() - refreshes).toBe(1)
    expect(server.tokenRequests.length - attempts).toBeGreaterThanOrEqual(1)

    const failed = once(events, 'failed') as Promise<[{ failedReason: string }]>
    await queue.pause()
    expect((await tab.post('/export', {})).status).toBe(200)
    expect((await tab.post('/logout', {})).status).toBe(200)
    worker.clock.advance(HOUR_MS)
    await queue.resume()
    const [{ failedReason }] = await failed
    expect(failedReason).toContain('logged_out')
    expect(await queue.getFailedCount()).toBe(1)
    await queue.obliterate({ force: true })
  })
})

it('S84 a job at an interval runs for each user, and deletes the references of those who logged out', async () => {
  const { web, worker } = await app()
  const kept = new Map<string, string>()
  const references = {
    all: async () => [...kept].map(([user, reference]) => ({ user, reference })),
    delete: async (user: string) => void kept.delete(user),
  }
  const tabs = await Promise.all(['alice', 'bob'].map((name) => loggedIn(web, name)))
  for (const [n, tab] of tabs.entries()) kept.set(`user ${n}`, (await tab.get('/reference')).json.reference)
  await tabs[0]!.post('/logout', {})
  const served: string[] = []
  const abort = new AbortController()
  let rounds = 0
  await runAtInterval(1, abort.signal, async () => {
    for (const { clock } of [web, worker]) clock.advance(HOUR_MS)
    await runForAll(references, worker.middleware, async (user) => {
      served.push((await user.getAccessToken()).token)
    })
    if (++rounds === 2) abort.abort()
  })
  expect([...kept.keys()]).toEqual(['user 1'])
  expect(new Set(served).size).toBe(2)
})

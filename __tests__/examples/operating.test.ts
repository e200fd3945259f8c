import { createHash } from 'node:crypto'
import { afterAll, expect, it, jest } from '@jest/globals'
import { createApp } from '../../examples/operating/app.js'
import { checkGrantStore } from '../../examples/operating/health.js'
import { logTo, withRequest } from '../../examples/operating/log.js'
import { metrics, stopCounting } from '../../examples/operating/prometheus.js'
import type { SessionTokensOptions } from '../../lib/index.js'
import { failingGrants } from '../helpers/failing-grants.js'
import { startLoginSite } from '../helpers/login-site.js'
import { sessionIdOf } from '../helpers/stores.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'
import { json, wireServer } from '../helpers/wire-server.js'

const { start, closing } = await testSites()

afterAll(stopCounting)

const digest = (sid: string) => createHash('sha256').update(sid).digest('base64url').slice(0, 8)

it('the recipes of docs/operating.md: a log with sessions, metrics for Prometheus, and a health check', async () => {
  const grants = failingGrants()
  const lines: string[] = []
  const api = closing(await wireServer((_request, response) => json(response, {}, 503)))
  const onEvent = logTo((line) => void lines.push(line))
  const tokens = { grants: grants.store, onEvent } as Partial<SessionTokensOptions>
  const site = await start({ tokens, before: withRequest })
  site.app.get('/metrics', metrics)
  site.handle('/orders', async ({ tokens }) => (await tokens.fetch({ baseURL: api.url })('/')).status)
  const browser = site.browser()
  await site.login(browser)
  const sid = sessionIdOf(browser.cookie('connect.sid'))
  site.clock.advance(HOUR_MS)
  await browser.get('/token')
  await browser.get('/orders')
  await browser.get('/logout')

  const logged = lines.map((line) => JSON.parse(line))
  expect(logged).toMatchObject([{ type: 'logged_in' }, { type: 'refreshed' }, { type: 'ended' }])
  for (const { session } of logged.slice(0, 2)) expect(session).toBe(digest(sid))
  expect(lines.join()).not.toContain(sid)

  const { text } = await browser.get('/metrics')
  for (const line of [
    'session_tokens_events_total{type="refreshed",reason="",code=""} 1',
    'session_tokens_events_total{type="ended",reason="logged_out",code=""} 1',
    'session_tokens_events_total{type="session_ignored",reason="unknown_key",code=""} 0',
    `session_tokens_outbound_duration_seconds_count{origin="${api.url}",outcome="response"} 1`,
  ]) {
    expect(text).toContain(line)
  }
  expect(text).toMatch(/session_tokens_refresh_duration_seconds_count\{reason="\w*"\} 1/)

  expect(await checkGrantStore(grants.store)).toEqual({ milliseconds: expect.any(Number) })
  grants.goAway()
  await expect(checkGrantStore(grants.store)).rejects.toThrow('no connection')
})

it('the log of docs/operating.md ties the user of a login by login() to the grant and the session', async () => {
  const print = jest.spyOn(console, 'log').mockImplementation(() => {})
  const site = await startLoginSite({
    app: ({ tokens, url }) => createApp(tokens as never, { baseUrl: url, secret: 'test' }),
  })
  try {
    const visitor = await site.loggedIn('/login')
    const lines = print.mock.calls.map(([line]) => JSON.parse(String(line)))
    const sid = sessionIdOf(visitor.cookie('connect.sid'))
    const grantId = expect.any(String)
    expect(lines).toMatchObject([{ type: 'logged_in', grantId, session: digest(sid), user: 'alice' }])
  } finally {
    print.mockRestore()
    await site.close()
  }
})

import { setImmediate } from 'node:timers/promises'
import { describe, expect, it } from '@jest/globals'
import type { Browser } from '../helpers/browser.js'
import { testClock } from '../helpers/clock.js'
import { startTokenEndpoint } from '../helpers/fault-server.js'
import { outboundClients } from '../helpers/outbound-clients.js'
import { ownProcess } from '../helpers/site.js'
import { wireServer } from '../helpers/wire-server.js'
import { WAYS } from './ambient-ways.js'
import type { FrameworkDriver } from './framework-driver.js'
import { frameworkApps } from './framework-tests.js'

const HOUR_MS = 3_600_000
const USERS = 20
const REQUESTS_EACH = 12

/** Many users at once, and the clients of the whole app. */
export function describeAmbientLoad(driver: FrameworkDriver): void {
  describe(`the clients of the whole app under load, ${driver.name}`, () => {
    const apps = frameworkApps(driver)

    /** Tokens that say whose they are, and how often they were refreshed: `user7 1`. */
    const tokensOf = (user: string, revision: number) => ({
      access_token: `${user} ${revision}`,
      refresh_token: `${user} ${revision}`,
      expires_in: 3600,
      token_type: 'Bearer',
    })

    it('S14 hundreds of requests of many users: each call carries its own user’s token', async () => {
      const endpoint = await startTokenEndpoint(async ({ parameters }) => {
        const [user = '', revision] = parameters.get('refresh_token')!.split(' ')
        await setImmediate()
        return { status: 200, body: tokensOf(user, Number(revision) + 1) }
      })
      const api = await wireServer(async ({ headers }, response) => {
        for (let turn = 0; turn < Math.random() * 5; turn++) await setImmediate()
        response.end(headers.authorization?.replace('Bearer ', ''))
      })
      apps.closing(endpoint.close)
      apps.closing(api.close)
      const clock = testClock()
      const app = apps.app()
      app.sessions()
      const options = apps.options({ ambient: true, tokenEndpoint: endpoint.tokenEndpoint })
      app.tokens(options, { surroundings: ownProcess(clock) })
      apps.usual(app)
      const calls = outboundClients.map((client) => client.ambient({ baseURL: api.url }))
      app.handle('/call', async (visit) => {
        const { number } = visit.body as { number: number }
        const [, way] = WAYS[number % WAYS.length]!
        const call = async () => (await calls[number % calls.length]!({ url: '/' })).text
        return [await call(), await way(visit, call, api.url), await call()]
      })

      const page = await app.listen()
      const users: [string, Browser][] = []
      for (let user = 0; user < USERS; user++) {
        const tab = page.clone()
        await tab.post('/login', tokensOf(`user${user}`, 0))
        users.push([`user${user}`, tab])
      }
      clock.advance(HOUR_MS)
      const numbers = Array.from({ length: REQUESTS_EACH * USERS }, (_, number) => number)
      const answers = await Promise.all(
        numbers.map(async (number) => {
          const [user, tab] = users[number % USERS]!
          return [user, (await tab.post('/call', { number })).json]
        }),
      )
      for (const [user, tokens] of answers) expect(tokens).toEqual(Array(3).fill(`${user} 1`))
      expect(answers).toHaveLength(REQUESTS_EACH * USERS)
      expect(endpoint.requests).toHaveLength(USERS)
    }, 30_000)
  })
}

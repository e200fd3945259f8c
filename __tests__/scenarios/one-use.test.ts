import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import { type Site, startSite } from '../helpers/site.js'

const HOUR_MS = 3_600_000

let server: AuthorizationServer
let site: Site

beforeAll(async () => {
  server = await startAuthorizationServer()
})
afterEach(() => site.close())
afterAll(() => server.close())

describe('one use', () => {
  it('S10 50 parallel requests, one session, expired access token: 1 refresh, 50 answers', async () => {
    site = await startSite(server)
    const browser = site.browser()
    await site.login(browser)
    const before = server.refreshes()
    site.clock.advance(HOUR_MS)
    const answers = await Promise.all(Array.from({ length: 50 }, () => browser.get('/token')))
    expect(answers.map(({ status }) => status)).toEqual(Array(50).fill(200))
    expect(new Set(answers.map(({ json }) => json.token)).size).toBe(1)
    expect(server.refreshes() - before).toBe(1)
    expect(server.reuses()).toBe(0)
    const tokens = (await site.stored(browser))?.tokens as string
    expect(await server.isActive(JSON.parse(tokens).refreshToken)).toBe(true)
  })
})

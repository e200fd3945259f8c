import { once } from 'node:events'
import { afterEach, describe, expect, it } from '@jest/globals'
import { listen } from '../../examples/demo/server.js'
import { firstUrl, killCommands, printedBy, run } from './commands.js'

const TIMEOUT_MS = 50_000

afterEach(killCommands)

describe('npm start -- --tour', () => {
  it(
    'goes through the demo, prints each step, and exits with 0',
    async () => {
      const { stdout, exitCode } = await printedBy(run('npm', ['start', '--', '--tour']))
      expect(stdout).not.toContain('WENT WRONG')
      const steps = stdout.split('\n').filter((line) => /^ *\d+\.\d\d s /.test(line))
      const fingerprint = '[0-9a-f]{6}'
      const expected = [
        `log in +authorization_code → 200 +access token ${fingerprint}, good for 4 s`,
        `call the API +nothing +1 call answered, access token ${fingerprint}`,
        'let it expire +the access token has expired',
        `50 calls at once +refresh_token → 200 +50 calls answered, 1 refresh, refresh token ${fingerprint} → ${fingerprint}`,
        `the API's view +access token ${fingerprint} → ${fingerprint}, one for all 50 calls`,
        `slow order +refresh_token → 200 +the order is in the session, refresh token ${fingerprint} → ${fingerprint}`,
        `log out +revocation → 200 +refresh token ${fingerprint} revoked`,
        'call the API +nothing +401, and the API saw nothing',
        `old refresh token +refresh_token → 400 +refresh token ${fingerprint} is no longer accepted: invalid_grant`,
      ]
      expect(steps).toEqual(
        expected.map((step) => expect.stringMatching(new RegExp(`^ *\\d+\\.\\d\\d s {2}${step}$`))),
      )
      expect(exitCode).toBe(0)
    },
    TIMEOUT_MS,
  )
})

describe('npm start', () => {
  it.each(['SIGINT', 'SIGTERM'] as const)(
    'says where the page is, until %s ends it with 0',
    async (signal) => {
      const child = run('npm', ['start'])
      const url = await firstUrl(child.stdout)
      const page = await fetch(url)
      expect(await page.text()).toContain('<title>session-token-manager')
      // A page that is open holds a connection.
      const timeline = await fetch(`${url}/timeline`)
      child.kill(signal)
      expect(await once(child, 'exit')).toEqual([0, null])
      expect(await timeline.text()).toBe(': the time line\n\n')
      await expect(fetch(url)).rejects.toThrow('fetch failed')
    },
    TIMEOUT_MS,
  )
})

describe('listen(port)', () => {
  it('takes another port if that one is taken', async () => {
    const occupant = await listen(0)
    const port = Number(new URL(occupant.url).port)
    const server = await listen(port)
    expect(new URL(server.url).port).not.toBe(`${port}`)
    await Promise.all([occupant.close(), server.close()])
  })
})

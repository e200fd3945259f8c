import { afterEach, describe, expect, it } from '@jest/globals'
import { inChromium, launchChromium } from '../helpers/chromium.js'
import { describeWithRedisServer } from '../helpers/redis.js'
import { firstUrl, killCommands, printedBy, run } from './commands.js'

const TIMEOUT_MS = 120_000
// As `npm start -- --cluster --tour`, but on the sources, so that nothing is built.
const ON_SOURCES = { TSX_TSCONFIG_PATH: '__tests__/tsconfig.json' }
const SERVE = ['--import', 'tsx', 'examples/demo/main.ts', '--cluster']
const TOUR = [...SERVE, '--tour']

afterEach(killCommands)

describeWithRedisServer('npm start -- --cluster --tour', () => {
  it(
    'goes through the demo in several processes, prints each step, and exits with 0',
    async () => {
      const env = { ...ON_SOURCES, REDIS_URL: '' }
      const { stdout, stderr, exitCode } = await printedBy(
        run(process.execPath, [...TOUR, '--workers', '3'], env),
      )
      const token = '[0-9a-f]{6}'
      const rotated = `refresh token ${token} → ${token}`
      const time = '^ *\\d+\\.\\d\\d s {2}'
      const expected = [
        `${time}start +a redis-server of its own, and worker 1, worker 2, worker 3`,
        `${time}log in +authorization_code → 200 +access token ${token}, good for 4 s`,
        `${time}call the API +nothing +each worker answered, with access token ${token}`,
        `${time}let it expire +the access token has expired`,
        `${time}Redis +\\d+ s old(: the tour waited until it was 5)?`,
        '^ +A Redis younger than 5 s may have forgotten leases, so it grants none for grants that it does not know.',
        `${time}50 calls at once +refresh_token → 200 +answered by worker 1 \\(\\d+\\), worker 2 \\(\\d+\\), worker 3 \\(\\d+\\)`,
        `^ +1 refresh, by worker [123], ${rotated}`,
        `${time}let it expire +the access token has expired`,
        `${time}kill -9 +refresh_token → 200 +worker [123] had the lease, and died at the door of the token endpoint; its call died with it`,
        '^ +answered by worker [12] \\(1\\), worker [23] \\(1\\), after \\d+\\.\\d s, when the lease had run out',
        `^ +1 refresh, by worker [123], ${rotated}`,
        '^ +worker 4 has taken its place',
        '^ +The refresh token had not been used. Had its answer died with the worker, the user would have to log in again.',
        `${time}rolling restart +((\\d+ × )?refresh_token → 200|nothing) +worker [12], worker [23], worker 4 → worker 5, worker 6, worker 7`,
        '^ +\\d+ calls meanwhile, all answered; still logged in',
        `${time}log out +revocation → 200 +in worker [567]: refresh token ${token} revoked`,
        '^ +the old cookie gets 401, answered by worker 5 \\(1\\), worker 6 \\(1\\), worker 7 \\(1\\); the API saw nothing',
        `${time}old refresh token +refresh_token → 400 +refresh token ${token} is no longer accepted: invalid_grant`,
      ]
      expect(stdout.trimEnd().split('\n')).toEqual(
        expected.map((line) => expect.stringMatching(new RegExp(`${line}$`))),
      )
      expect({ stderr, exitCode }).toEqual({ stderr: '', exitCode: 0 })
    },
    TIMEOUT_MS,
  )
})

describeWithRedisServer('npm start -- --cluster', () => {
  inChromium(
    'names its workers, and the session outlives one that a button kills',
    async () => {
      // No refresh is under way when the worker dies: its response could die with it.
      const env = { ...ON_SOURCES, REDIS_URL: '', PORT: '0', ACCESS_TOKEN_SECONDS: '60' }
      const child = run(process.execPath, [...SERVE, '--workers', '2'], env)
      const browser = await launchChromium()
      try {
        const page = await browser.newPage()
        await page.goto(await firstUrl(child.stdout))
        await page.getByRole('link', { name: 'Log in' }).click()
        await page.getByRole('button', { name: 'Continue as demo user' }).click()
        await page.getByText('You are logged in.').waitFor()
        const workers = page.locator('#workers li')
        await workers.filter({ hasText: 'worker 2' }).waitFor()

        await page.getByRole('button', { name: 'Kill worker 1' }).click()
        await page.getByText('worker 1 was killed').waitFor()
        await workers.filter({ hasText: 'worker 3' }).waitFor()
        expect(await workers.allTextContents()).toEqual(['worker 2Kill', 'worker 3Kill'])
        await page.getByRole('button', { name: 'Call the API' }).click()
        await page.getByText(/^1 call answered by worker [23]\.$/).waitFor()
      } finally {
        await browser.close()
      }
    },
    TIMEOUT_MS,
  )
})

describe('npm start -- --cluster --tour, without a Redis', () => {
  it.each([
    [
      'no redis-server on PATH',
      { PATH: '/nowhere', REDIS_URL: '' },
      'There is no redis-server on PATH. Install Redis (apt install redis-server, brew install redis), or name one in REDIS_URL.',
    ],
    [
      'none at REDIS_URL',
      { REDIS_URL: 'redis://:the-password@127.0.0.1:1' },
      'No Redis answers at REDIS_URL (ECONNREFUSED).',
    ],
  ])(
    '%s: says in a line what to do, and exits with 1',
    async (_, env, message) => {
      const printed = await printedBy(run(process.execPath, TOUR, { ...ON_SOURCES, ...env }))
      expect(printed).toEqual({ stdout: '', stderr: `${message}\n`, exitCode: 1 })
    },
    TIMEOUT_MS,
  )
})

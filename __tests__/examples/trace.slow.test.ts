import { afterEach, expect, it } from '@jest/globals'
import { describeWithRedisServer } from '../helpers/redis.js'
import { killCommands, printedBy, run } from './commands.js'

const TIMEOUT_MS = 60_000
const ON_SOURCES = { TSX_TSCONFIG_PATH: '__tests__/tsconfig.json', REDIS_URL: '' }

afterEach(killCommands)

describeWithRedisServer('examples/trace/main.ts', () => {
  it(
    'S95 prints the trace of one refresh over two processes: one has refreshed, the other one shares the result',
    async () => {
      const child = run(process.execPath, ['--import', 'tsx', 'examples/trace/main.ts'], ON_SOURCES)
      const { stdout, stderr, exitCode } = await printedBy(child)
      expect({ stderr, exitCode }).toEqual({ stderr: '', exitCode: 0 })
      expect(stdout).toMatch(/^20 of 20 requests succeeded, with 1 refresh\.\n/)
      const times = '^ *\\d+ ms +\\d+ ms'
      for (const name of ['process 1', 'process 2']) {
        expect(stdout).toMatch(new RegExp(`${times}  ${name}  GET /orders$`, 'm'))
        expect(stdout).toMatch(new RegExp(`${times}  ${name}    session_token_manager\\.refresh$`, 'm'))
      }
      expect(stdout.match(/outcome=\w+/g)?.sort()).toEqual(['outcome=refreshed', 'outcome=shared'])
      expect(stdout.match(/reason=expired/g)).toHaveLength(2)
      expect(stdout.match(/event session_token_manager\.refreshed/g)).toHaveLength(1)
      expect(stdout).not.toMatch(/(access|refresh)-token-\d/)
    },
    TIMEOUT_MS,
  )
})

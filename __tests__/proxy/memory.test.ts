import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from '@jest/globals'

const LEAKS = join(import.meta.dirname, '../helpers/proxy-leaks.ts')

it('an open WebSocket holds nothing of the request for it, and a closed one neither', async () => {
  const args = ['--expose-gc', '--import', 'tsx', LEAKS]
  const { stdout, stderr } = await promisify(execFile)(process.execPath, args)
  // Node warns of more listeners than it takes for granted.
  expect(stderr).toBe('')
  const { express, koa } = JSON.parse(stdout)
  // V8 may have the last one at hand.
  for (const { requests, open, closed } of [express, koa]) {
    expect(requests).toBe(50)
    expect(open).toBeLessThanOrEqual(1)
    expect(closed).toBeLessThanOrEqual(1)
  }
}, 30_000)

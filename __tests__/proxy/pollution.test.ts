import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from '@jest/globals'

const PROXY = join(import.meta.dirname, '../helpers/polluted-proxy.ts')

it("options on Object.prototype change neither a request's destination nor its headers", async () => {
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', PROXY])
  const arrivals: unknown[][] = JSON.parse(stdout)
  expect(arrivals).toHaveLength(32)
  for (const [index, arrival] of arrivals.entries()) {
    expect(arrival).toEqual(['api', index % 2 === 0 ? 'Bearer a-token' : null, null])
  }
}, 30_000)

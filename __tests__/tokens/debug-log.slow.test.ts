import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from '@jest/globals'

const root = join(import.meta.dirname, '../..')
const script = `
  import { emitterOf } from './lib/tokens/event-emitter.ts'
  import { TokenError } from './lib/errors/token-error.ts'
  const error = new TokenError('ERR_GRANT_STORE', 'It is full.', { cause: new Error('rt-1'), secrets: ['rt-1'] })
  emitterOf({ onEvent: undefined, now: () => 7 })({ type: 'grant_store_failed', grantId: 'g', error })
`

async function printed(section: string): Promise<string> {
  const options = { cwd: root, env: { ...process.env, NODE_DEBUG: section } }
  const args = ['--import', 'tsx', '--input-type=module', '--eval', script]
  return (await promisify(execFile)(process.execPath, args, options)).stderr
}

it('S95 NODE_DEBUG=session-token-manager prints each event as JSON, without a token', async () => {
  const text = await printed('session-token-manager')
  expect(text).toMatch(/^SESSION-TOKEN-MANAGER \d+: \{"type":"grant_store_failed","grantId":"g"/)
  expect(text).toContain('"code":"ERR_GRANT_STORE","message":"It is full."')
  expect(text).not.toContain('rt-1')
  expect(await printed('')).toBe('')
})

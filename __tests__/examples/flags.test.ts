import { afterEach, describe, expect, it } from '@jest/globals'
import { startAskedFor } from '../../examples/demo/flags.js'
import { killCommands, printedBy, run } from './commands.js'

afterEach(killCommands)

describe('startAskedFor(args)', () => {
  it.each([
    [[], 'demo'],
    [['--tour'], 'demo'],
    [['--cluster', '--workers', '3', '--tour'], 'cluster'],
    [['--cluster', '--workers=3'], 'cluster'],
    [['--gateway'], 'gateway'],
    [['--help'], 'help'],
    [['--cluster', '-h'], 'help'],
  ])('%j starts the %s', (args, start) => {
    expect(startAskedFor(args)).toBe(start)
  })

  it.each([
    [['--turo'], 'Unknown flag --turo. Did you mean --tour?'],
    [['tour'], 'Unknown flag tour. Did you mean --tour?'],
    [['--cluster', '--worker', '3'], 'Unknown flag --worker. Did you mean --workers?'],
    [['--port'], 'Unknown flag --port. Known are --help, --tour, --cluster, --workers, --gateway.'],
    [['--gateway', '--tour'], '--tour does not go with the gateway.'],
    [['--workers', '3'], '--workers does not go with the demo.'],
  ])('%j is refused', (args, message) => {
    expect(() => startAskedFor(args)).toThrow(message)
  })
})

describe('npm start -- --help', () => {
  it('prints every flag, starts nothing, and ends with 0', async () => {
    const { stdout, stderr, exitCode } = await printedBy(start('--help'))
    expect([stderr, exitCode]).toEqual(['', 0])
    for (const flag of ['--tour', '--cluster', '--workers', '--gateway', '--help']) {
      expect(stdout).toContain(flag)
    }
  }, 50_000)
})

describe('npm start -- --turo', () => {
  it('says so in a line, starts nothing, and ends with 1', async () => {
    const stderr = 'Unknown flag --turo. Did you mean --tour?\n'
    expect(await printedBy(start('--turo'))).toEqual({ stdout: '', stderr, exitCode: 1 })
  }, 50_000)
})

/** On the sources, so that nothing is built. */
function start(flag: string) {
  const env = { TSX_TSCONFIG_PATH: '__tests__/tsconfig.json' }
  return run(process.execPath, ['--import', 'tsx', 'examples/demo/main.ts', flag], env)
}

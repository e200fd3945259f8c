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
  ])('%j starts the %s', (args, start) => {
    expect(startAskedFor(args)).toBe(start)
  })

  it.each([
    [['--turo'], 'Unknown flag --turo. Did you mean --tour?'],
    [['tour'], 'Unknown flag tour. Did you mean --tour?'],
    [['--cluster', '--worker', '3'], 'Unknown flag --worker. Did you mean --workers?'],
    [['--help'], 'Unknown flag --help. Known are --tour, --cluster, --workers, --gateway.'],
    [['--gateway', '--tour'], '--tour does not go with the gateway.'],
    [['--workers', '3'], '--workers does not go with the demo.'],
  ])('%j is refused', (args, message) => {
    expect(() => startAskedFor(args)).toThrow(message)
  })
})

describe('npm start -- --turo', () => {
  it('says so in a line, starts nothing, and ends with 1', async () => {
    // On the sources: another test may be building the package.
    const env = { TSX_TSCONFIG_PATH: '__tests__/tsconfig.json' }
    const printed = run(process.execPath, ['--import', 'tsx', 'examples/demo/main.ts', '--turo'], env)
    const stderr = 'Unknown flag --turo. Did you mean --tour?\n'
    expect(await printedBy(printed)).toEqual({ stdout: '', stderr, exitCode: 1 })
  }, 50_000)
})

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'

const read = (file: string) => readFileSync(join(import.meta.dirname, '..', file), 'utf8')
const readme = read('README.md')

/** The names in the first column of the table below a heading; one row may have several. */
function rowsOf(heading: string): { names: string[]; row: string }[] {
  const [, section = ''] = readme.split(`\n${heading}\n`)
  const [table = ''] = section.split(/\n#+ /)
  return [...table.matchAll(/^\| (`.*?) \|(.*)$/gm)].flatMap(([, first = '', row = '']) => {
    const names = namesIn(first)
    return names.includes('type') ? [] : [{ names, row }]
  })
}

const namesIn = (text: string) => [...text.matchAll(/`(\w+)/g)].map(([, name = '']) => name)
const tableOf = (heading: string) => rowsOf(heading).flatMap(({ names }) => names)

describe('the tables of the README', () => {
  it('name every option', () => {
    const [, list = ''] = /const OPTIONS = \[(.*?)\]/s.exec(read('lib/option-checks.ts')) ?? []
    const options = [...list.matchAll(/'(\w+)'/g)].map(([, name]) => name)
    expect(options).toContain('issuer')
    expect(tableOf('## Options').sort()).toEqual(options.sort())
  })

  it('name every option of the proxy', () => {
    const [, list = ''] = /const OPTIONS = \[(.*?)\]/s.exec(read('lib/outbound/proxy/options.ts')) ?? []
    const options = [...list.matchAll(/'(\w+)'/g)].map(([, name]) => name)
    expect(options).toContain('target')
    expect(tableOf('## A proxy that carries the token').sort()).toEqual(options.sort())
  })

  it('name every event, with its fields', () => {
    const events = [...read('lib/events.ts').matchAll(/\| \{\s*readonly type: '(\w+)'(.*?)\}/gs)]
    const fields = events.map(([, type, rest = '']): [string | undefined, string[]] => [
      type,
      [...rest.matchAll(/readonly (\w+)/g)].map(([, name = '']) => name).filter((name) => name !== 'grantId'),
    ])
    expect(fields).toContainEqual(['refreshed', ['revision', 'durationMs']])
    const documented = rowsOf('### Events').map(({ names, row }) => [
      names[0],
      namesIn(row.split(' |')[0] ?? ''),
    ])
    expect(documented).toEqual(fields)
  })

  it('name every error code', () => {
    const codes = [...read('lib/errors.ts').matchAll(/^ {2}\| '(ERR_\w+)'/gm)].map(([, code]) => code)
    expect(codes).toContain('ERR_NO_TOKENS')
    expect(tableOf('## Errors').sort()).toEqual(codes.sort())
  })
})

describe('the snippets of the README', () => {
  const snippets = [...readme.matchAll(/```ts\n(.*?)```/gs)].map(([, code = '']) => code)
  /** Those that can be copied as they stand: an ellipsis stands for further options. */
  const whole = snippets.flatMap((code) =>
    [...code.matchAll(/^ *(?:app\.use\(\s*)?sessionTokens\(\{(.*?)\}\),?$/gms)].map(
      ([, options = '']) => options,
    ),
  )

  it('seal the tokens, with the key of the first one made in place', () => {
    const complete = whole.filter((options) => !options.includes('…'))
    expect(complete.length).toBeGreaterThan(1)
    for (const options of complete) expect(options).toContain('encryptionKeys: [process.env.SESSION_KEY]')
    expect(complete[0]).toContain('openssl rand -base64 32')
  })
})

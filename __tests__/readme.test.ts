import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'

const read = (file: string) => readFileSync(join(import.meta.dirname, '..', file), 'utf8')

/** The names in the first column of the table below a heading of a page; one row may have several. */
function rowsOf(page: string, heading: string): { names: string[]; row: string }[] {
  const [, section = ''] = `\n${read(page)}`.split(`\n${heading}\n`)
  const [table = ''] = section.split(/\n#+ /)
  return [...table.matchAll(/^\| (`.*?) \|(.*)$/gm)].flatMap(([, first = '', row = '']) => {
    const names = namesIn(first)
    return names.includes('type') ? [] : [{ names, row }]
  })
}

const namesIn = (text: string) => [...text.matchAll(/`(\w+)/g)].map(([, name = '']) => name)
const tableOf = (page: string, heading: string) => rowsOf(page, heading).flatMap(({ names }) => names)

/** The names in the table of options that a file has. */
function optionsIn(file: string): string[] {
  const [, table = ''] = /const OPTIONS = \{\n(.*?)\n\}/s.exec(read(file)) ?? []
  return [...table.matchAll(/^ {2}(\w+):/gm)].map(([, name = '']) => name)
}

describe('the tables of docs/', () => {
  it('name every option', () => {
    const options = optionsIn('lib/middleware/check-options.ts')
    expect(options).toContain('issuer')
    expect(tableOf('docs/options.md', '# Options of `sessionTokens()`').sort()).toEqual(options.sort())
  })

  it('name every option of the proxy', () => {
    const options = optionsIn('lib/proxy/options.ts')
    expect(options).toContain('target')
    expect(tableOf('docs/bff.md', '## Options of `bearerProxy()`').sort()).toEqual(options.sort())
  })

  it('name every option of the guard', () => {
    const options = optionsIn('lib/middleware/require-tokens.ts')
    expect(options).toContain('loginPath')
    expect(tableOf('docs/routes.md', '# Routes and scopes').sort()).toEqual(options.sort())
  })

  it('name every event, with its fields', () => {
    const events = [...read('lib/tokens/events.ts').matchAll(/\| \{\s*readonly type: '(\w+)'(.*?)\}/gs)]
    const fields = events.map(([, type, rest = '']): [string | undefined, string[]] => [
      type,
      [...rest.matchAll(/readonly (\w+)/g)].map(([, name = '']) => name).filter((name) => name !== 'grantId'),
    ])
    expect(fields).toContainEqual(['session_repaired', ['revision']])
    const documented = rowsOf('docs/events.md', '# Events').map(({ names, row }) => [
      names[0],
      namesIn(row.split(' |')[0] ?? ''),
    ])
    expect(documented).toEqual(fields)
  })

  it('name every error code', () => {
    const codes = [...read('lib/errors/token-error.ts').matchAll(/^ {2}\| '(ERR_\w+)'/gm)].map(
      ([, code]) => code,
    )
    expect(codes).toContain('ERR_NO_TOKENS')
    expect(tableOf('docs/errors.md', '## Codes').sort()).toEqual(codes.sort())
  })
})

describe('the README', () => {
  it("shows the whole app of examples/first-app.js, and the key's command with it", () => {
    const [, app] = /```js\n(.*?)```/s.exec(read('README.md')) ?? []
    expect(app).toBe(read('examples/first-app.js'))
    expect(app).toContain('openssl rand -base64 32')
  })

  it('begins with the two commands of a clone', () => {
    const [, commands] = /```sh\n(.*?)```/s.exec(read('README.md')) ?? []
    expect(commands).toMatch(/^npm ci && npm start .*\nnpm ci && npm test .*\n$/)
  })
})

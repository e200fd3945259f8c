import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from '@jest/globals'

const root = join(import.meta.dirname, '..')
const read = (file: string) => readFileSync(join(root, file), 'utf8')
const inOneLine = (text: string) => text.replace(/\s+/g, ' ').trim()
const heading = (text: string) =>
  text
    .toLowerCase()
    .replace(/[^\w\- ]/g, '')
    .replaceAll(' ', '-')

const filesBelow = (directory: string, ending: string) =>
  readdirSync(join(root, directory), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith(ending))
    .map((file) => join(directory, file))

/** Typedoc makes the pages of the API reference and checks their links. */
const pages = ['README.md', ...filesBelow('docs', '.md'), ...filesBelow('.github', '.md')].filter(
  (page) => !page.startsWith('docs/api/'),
)

describe.each([
  ['docs/redis.md', 'examples/redis-clients.ts', 6],
  ['docs/postgresql.md', 'examples/postgres-clients.ts', 3],
])('%s', (name, example, count) => {
  const page = read(name)
  const snippets = [...page.matchAll(/```ts\n(.*?)```/gs)].map(([, snippet = '']) => inOneLine(snippet))

  it(`shows clients that the compiler checks, in ${example}`, () => {
    const checked = inOneLine(read(example))
    expect(snippets).toHaveLength(count)
    for (const snippet of snippets) expect(checked).toContain(snippet)
  })
})

describe('docs/frameworks.md', () => {
  const inExamples = filesBelow('examples/frameworks', '')
    .filter((file) => /\.(ts|js)$/.test(file))
    .map((file) => inOneLine(read(file)))

  it('shows code of examples/frameworks, which the check of the package runs', () => {
    const snippets = [...read('docs/frameworks.md').matchAll(/```(?:js|typescript)\n(.*?)```/gs)]
    expect(snippets.length).toBeGreaterThan(8)
    for (const [, snippet = ''] of snippets) {
      expect([snippet, inExamples.some((example) => example.includes(inOneLine(snippet)))]).toEqual([
        snippet,
        true,
      ])
    }
  })
})

describe('docs/operating.md', () => {
  const page = read('docs/operating.md')
  const inExamples = inOneLine(
    filesBelow('examples/operating', '')
      .filter((file) => /\.(ts|yml)$/.test(file))
      .map(read)
      .join('\n'),
  )

  it('shows code that the compiler checks and a test runs, and the alerts, of examples/operating', () => {
    const snippets = [...page.matchAll(/```(?:ts|yaml)\n(.*?)```/gs)].map(([, snippet = '']) =>
      inOneLine(snippet),
    )
    expect(snippets).toHaveLength(5)
    for (const snippet of snippets) expect(inExamples).toContain(snippet)
  })

  it('has each reason of an end and of an ignored session in its table', () => {
    const events = read('lib/tokens/events.ts')
    for (const type of ['EndReason', 'IgnoredReason']) {
      const [, union = ''] = new RegExp(`export type ${type} =\\n(.*?)\\n\\n`, 's').exec(events) ?? []
      const reasons = [...union.matchAll(/\| '(\w+)'/g)].map(([, reason = '']) => reason)
      expect(reasons.length).toBeGreaterThan(4)
      for (const reason of reasons) expect(page).toContain(`\`${reason}\``)
    }
  })
})

describe('docs/README.md', () => {
  const links = [...read('docs/README.md').matchAll(/\]\(([\w-]+\.md)\)/g)].map(([, page = '']) => page)

  it('lists each page of docs/ once', () => {
    const inDocs = readdirSync(join(root, 'docs')).filter(
      (file) => file.endsWith('.md') && file !== 'README.md',
    )
    expect(links.sort()).toEqual(inDocs.sort())
  })

  it('is linked from the README', () => {
    expect(read('README.md')).toContain('](docs/README.md)')
  })
})

describe('docs/scenarios.md', () => {
  /** The rows of the tables: a number, and the test files of its row. */
  const rows = [...read('docs/scenarios.md').matchAll(/^\| (S\d+) \|(.*)$/gm)].map(
    ([, number = '', row = '']) => ({
      number,
      files: [...row.matchAll(/\]\(\.\.\/(.*?)\)/g)].map(([, file = '']) => file),
    }),
  )
  const listed = rows.map(({ number }) => number).sort()
  const inTitles = new Map(filesBelow('__tests__', '.ts').map((file) => [file, numbersInTitles(read(file))]))

  /** The numbers at the beginning of the strings of a file, since a title begins with them. */
  function numbersInTitles(text: string): string[] {
    return [...text.matchAll(/['"`]((?:S\d+ )+)/g)].flatMap(([, numbers = '']) => numbers.trim().split(' '))
  }

  it('lists each scenario of a test title once, and no other', () => {
    expect(listed).toContain('S21')
    expect(listed).toEqual([...new Set([...inTitles.values()].flat())].sort())
  })

  it('lists each scenario that the page of session layers names; the README names none', () => {
    // S256 is a method of PKCE.
    const numbersIn = (page: string) =>
      [...read(page).matchAll(/\bS(?!256\b)\d{1,3}\b/g)].map(([number]) => number)
    expect(numbersIn('README.md')).toEqual([])
    const named = numbersIn('docs/session-layers.md')
    expect(named).toContain('S26')
    expect(listed).toEqual(expect.arrayContaining(named))
  })

  it('names files that have the scenario in a title', () => {
    for (const { number, files } of rows) {
      expect(files).not.toHaveLength(0)
      for (const file of files)
        expect([file, inTitles.get(file)]).toEqual([file, expect.arrayContaining([number])])
    }
  })
})

describe.each(pages)('%s', (page) => {
  const links = [...read(page).matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)/g)]

  it('links to files and headings that exist', () => {
    for (const [, path = '', anchor] of links) {
      const file = path === '' ? page : join(dirname(page), path)
      expect([file, existsSync(join(root, file))]).toEqual([file, true])
      if (anchor !== undefined) expect([file, ...headingsOf(file)]).toContain(anchor)
    }
  })

  it('names paths that exist', () => {
    const paths = [
      ...read(page).matchAll(/`((?:lib|__tests__|examples|bench|docs|\.ci|\.github)\/[^`\s]*)`/g),
    ]
    for (const [, path = ''] of paths) expect([path, existsSync(join(root, path))]).toEqual([path, true])
  })

  function headingsOf(file: string): string[] {
    return [...read(file).matchAll(/^#+ (.*)$/gm)].map(([, text = '']) => heading(text))
  }
})

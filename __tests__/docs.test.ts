import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'

const read = (file: string) => readFileSync(join(import.meta.dirname, '..', file), 'utf8')
const inOneLine = (text: string) => text.replace(/\s+/g, ' ').trim()
const heading = (text: string) => text.toLowerCase().replaceAll(' ', '-')

describe('docs/redis.md', () => {
  const page = read('docs/redis.md')
  const snippets = [...page.matchAll(/```ts\n(.*?)```/gs)].map(([, snippet = '']) => inOneLine(snippet))

  it('shows clients that the compiler checks, in examples/redis-clients.ts', () => {
    const checked = inOneLine(read('examples/redis-clients.ts'))
    expect(snippets).toHaveLength(6)
    for (const snippet of snippets) expect(checked).toContain(snippet)
  })

  it('and the README lead to each other', () => {
    const readme = read('README.md')
    expect(readme).toContain('](docs/redis.md)')
    const headings = [...readme.matchAll(/^#+ (.*)$/gm)].map(([, text = '']) => heading(text))
    const links = [...page.matchAll(/\]\(\.\.\/README\.md#([^)]+)\)/g)].map(([, link]) => link)
    expect(links.length).toBeGreaterThan(0)
    for (const link of links) expect(headings).toContain(link)
  })
})

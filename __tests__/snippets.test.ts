import { execFile } from 'node:child_process'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, describe, expect, it } from '@jest/globals'

/** A snippet with more lines than this is a part of an example, which a test runs. */
const MOST_LINES = 35

const root = join(import.meta.dirname, '..')
const scratch = mkdtempSync(join(tmpdir(), 'snippets-'))
const inOneLine = (text: string) => text.replace(/\s+/g, ' ').trim()
const pages = [
  'README.md',
  ...readdirSync(join(root, 'docs'))
    .filter((file) => file.endsWith('.md'))
    .map((file) => join('docs', file)),
]

interface Snippet {
  readonly name: string
  readonly code: string
  /** The code, below the imports that the page has shown before. */
  readonly whole: string
}

const snippets = pages.flatMap(snippetsOf)
const examples = inOneLine(
  readdirSync(join(root, 'examples'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => readFileSync(join(root, 'examples', file), 'utf8'))
    .join('\n'),
)

afterAll(() => rmSync(scratch, { recursive: true }))

describe('the snippets of README.md and docs/', () => {
  it('compile', async () => {
    expect(snippets.length).toBeGreaterThan(20)
    expect(await errorsOfCompiler()).toBe('')
  }, 120_000)

  it('are parts of examples if they are long', () => {
    const long = snippets.filter(({ code }) => code.split('\n').length > MOST_LINES)
    expect(long.filter(({ code }) => !examples.includes(inOneLine(code))).map(({ name }) => name)).toEqual([])
  })

  it('seal the tokens', () => {
    const middlewares = snippets.flatMap(({ code }) => [...code.matchAll(/sessionTokens\(\{(.*?)\}\)/gs)])
    const complete = middlewares.filter(([, options = '']) => !/\.\.\.|tenant/.test(options))
    expect(complete.length).toBeGreaterThan(1)
    for (const [, options = ''] of complete) expect(options).toMatch(/\bencryptionKeys\b/)
  })
})

function snippetsOf(page: string): Snippet[] {
  const shown = new Map<string, string>()
  const fences = [...readFileSync(join(root, page), 'utf8').matchAll(/^```(tsx?)\n(.*?)^```/gms)]
  return fences.map(([, kind, code = ''], index) => {
    const own = importsOf(code)
    const declared = new Set(
      [...code.matchAll(/^(?:export )?(?:const|let|class|function|interface|type) (\w+)/gm)].map(
        ([, name]) => name,
      ),
    )
    const earlier = [...shown]
      .filter(([name]) => !own.has(name) && !declared.has(name))
      .map(([, line]) => line)
    for (const [name, line] of own) shown.set(name, line)
    const name = `${basename(page, '.md')}-${index + 1}.${kind}`
    return { name, code, whole: [...earlier, code, 'export {}\n'].join('\n') }
  })
}

/** An import for each name that a snippet imports. */
function importsOf(code: string): Map<string, string> {
  const imports = new Map<string, string>()
  for (const [, isType = '', clause = '', from] of code.matchAll(
    /^import (type )?([^'"]+?) from '([^']+)'/gm,
  )) {
    const [, outside = '', inside = ''] = /^([^{]*)(?:\{([^}]*)\})?$/s.exec(clause) ?? []
    const names = inside.split(',').map((name) => `{ ${name.trim()} }`)
    for (const name of [outside.replace(/,\s*$/, '').trim(), ...names].filter((text) => /\w/.test(text))) {
      const [local = ''] = /\w+(?= *\}?$)/.exec(name) ?? []
      imports.set(local, `import ${isType}${name} from '${from}'`)
    }
  }
  return imports
}

/** What the compiler says of all snippets. Each is a module of its own. */
async function errorsOfCompiler(): Promise<string> {
  const { compilerOptions } = JSON.parse(readFileSync(join(root, 'tsconfig.json'), 'utf8'))
  symlinkSync(join(root, 'node_modules'), join(scratch, 'node_modules'))
  mkdirSync(join(scratch, 'snippets'))
  // The compiler checks the examples as well.
  const others = snippets.filter(({ code }) => !examples.includes(inOneLine(code)))
  for (const { name, whole } of others) writeFileSync(join(scratch, 'snippets', name), whole)
  const options = {
    ...compilerOptions,
    rootDir: '/',
    noEmit: true,
    lib: ['es2023', 'es2024.string', 'dom', 'dom.iterable'],
    noUnusedLocals: false,
    noUnusedParameters: false,
    jsx: 'preserve',
    paths: {
      'session-token-manager': [join(root, 'lib/index.ts')],
      'session-token-manager/*': [join(root, 'lib/*.ts')],
    },
  }
  const include = ['snippets', join(import.meta.dirname, 'helpers/snippets.d.ts')]
  writeFileSync(join(scratch, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, include }))
  writeFileSync(join(scratch, 'package.json'), '{ "type": "module" }')
  const compiler = join(root, 'node_modules/typescript/bin/tsc')
  try {
    await promisify(execFile)(process.execPath, [compiler, '-p', scratch], { cwd: scratch })
    return ''
  } catch (error) {
    return String((error as { stdout?: unknown }).stdout ?? error)
  }
}

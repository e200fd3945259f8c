import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { describe, expect, it } from '@jest/globals'
import { nodesOf, syntaxOf } from './package/syntax.js'

interface Import {
  readonly from: string
  /** A file below lib/, or the name of a package. */
  readonly to: string
  readonly typeOnly: boolean
}

const lib = join(import.meta.dirname, '../lib')
const manifest = JSON.parse(readFileSync(join(lib, '../package.json'), 'utf8')) as {
  exports: Record<string, string | { default: string }>
}

const files = readdirSync(lib, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
  .map((entry) => relative(lib, join(entry.parentPath, entry.name)))
  .sort()
const imports = files.flatMap(importsOf)

/** What the exports map leads to: each gathers what an app imports, and nothing in lib/ imports it. */
const entries = Object.values(manifest.exports)
  .filter((target) => typeof target === 'object')
  .map((target) => relative('dist', target.default).replace(/js$/, 'ts'))

/** Each layer (the first folder), and the layers that its files may import, types included. Every file may import its own layer. */
const layers: Record<string, readonly string[]> = {
  middleware: [
    'manager',
    'outbound',
    'sessions',
    'grants',
    'oauth',
    'tokens',
    'options',
    'concurrency',
    'errors',
  ],
  login: ['middleware', 'outbound', 'sessions', 'oauth', 'tokens', 'options', 'concurrency', 'errors'],
  opentelemetry: ['tokens', 'options', 'errors'],
  manager: ['sessions', 'grants', 'oauth', 'tokens', 'options', 'concurrency', 'errors'],
  testing: ['middleware', 'grants', 'tokens', 'options', 'concurrency', 'errors'],
  proxy: ['outbound', 'tokens', 'options', 'concurrency', 'errors'],
  outbound: ['tokens', 'options', 'concurrency', 'errors'],
  sessions: ['tokens', 'options', 'concurrency', 'errors'],
  grants: ['tokens', 'options', 'concurrency', 'errors'],
  oauth: ['tokens', 'options', 'concurrency', 'errors'],
  tokens: ['options', 'errors'],
  options: ['errors'],
  concurrency: ['errors'],
  errors: [],
}

/** What a user of the library has installed with it. Anything else is the app's own, and lib/ knows its types only. */
const runtimePackages = ['axios', 'lru-cache', 'jose']
/** The app's own packages that one layer loads, since its entry is of no use without them. */
const packagesOfLayers: Record<string, readonly string[]> = {
  login: ['openid-client'],
  opentelemetry: ['@opentelemetry/api'],
}

describe('the imports of lib/', () => {
  it('are found', () => {
    expect(files).toContain('tokens/token-set.ts')
    expect(imports.length).toBeGreaterThan(0)
  })

  it.each(Object.entries(layers))('of %s lead to the same layer or to: %j', (layer, allowed) => {
    const inLayer = imports.filter(({ from, to }) => layerOf(from) === layer && files.includes(to))
    const offending = inLayer.filter(({ to }) => ![layer, ...allowed].includes(layerOf(to)))
    expect(offending.map(readable)).toEqual([])
  })

  it('never lead to an entry', () => {
    expect(imports.filter(({ to }) => entries.includes(to)).map(readable)).toEqual([])
  })

  it(`load nothing at runtime but node: and ${runtimePackages.join(', ')}`, () => {
    const offending = imports.filter(
      ({ from, to, typeOnly }) =>
        !typeOnly &&
        !packagesOfLayers[layerOf(from)]?.includes(packageOf(to)) &&
        !to.endsWith('.ts') &&
        !to.startsWith('node:') &&
        !runtimePackages.includes(packageOf(to)),
    )
    expect(offending.map(readable)).toEqual([])
  })

  it('form no cycle at runtime', () => {
    expect(cyclesOf(imports.filter(({ typeOnly }) => !typeOnly))).toEqual([])
  })
})

describe('the names in lib/', () => {
  it('say what a thing is, and none is utils, helpers or common', () => {
    const vague = /^(utils?|helpers?|common|misc)$/i
    const offending = files.filter((file) =>
      file.split('/').some((part) =>
        part
          .replace(/\.ts$/, '')
          .split(/[-_.]/)
          .some((word) => vague.test(word)),
      ),
    )
    expect(offending).toEqual([])
  })

  it('of the folders are the layers, and the root holds the entries alone', () => {
    expect(files.filter((file) => !(layerOf(file) in layers))).toEqual([...entries].sort())
  })
})

describe('cyclesOf(imports)', () => {
  const chain = (...path: string[]): Import[] =>
    path.slice(1).map((to, index) => ({ from: path[index] as string, to, typeOnly: false }))

  it.each([
    ['a chain', chain('a', 'b', 'c'), []],
    ['a file that imports itself', chain('a', 'a'), ['a → a']],
    ['two files', chain('a', 'b', 'a'), ['a → b → a']],
    ['a way into a cycle', chain('a', 'b', 'c', 'b'), ['b → c → b']],
    ['two ways to one file', [...chain('a', 'b', 'd'), ...chain('a', 'c', 'd')], []],
  ])('of %s', (_, of, cycles) => {
    expect(cyclesOf(of)).toEqual(cycles)
  })
})

function importsOf(from: string): Import[] {
  return [...nodesOf(syntaxOf(join(lib, from)))].flatMap((node) => {
    const specifier = specifierOf(node)
    if (specifier === undefined) return []
    const to = specifier.startsWith('.') ? join(dirname(from), specifier).replace(/\.js$/, '.ts') : specifier
    return [{ from, to, typeOnly: node.type === 'TsImportType' || node.typeOnly === true }]
  })
}

function specifierOf(node: Record<string, unknown>): string | undefined {
  switch (node.type) {
    case 'ImportDeclaration':
    case 'ExportNamedDeclaration':
    case 'ExportAllDeclaration':
      return textOf(node.source)
    case 'TsImportType':
      return textOf(node.argument)
    case 'CallExpression': {
      const [argument] = node.arguments as { expression: unknown }[]
      return (node.callee as { type: string }).type === 'Import' ? textOf(argument?.expression) : undefined
    }
    default:
      return undefined
  }
}

function textOf(literal: unknown): string | undefined {
  return (literal as { value?: string } | null | undefined)?.value
}

function layerOf(file: string): string {
  return file.includes('/') ? file.slice(0, file.indexOf('/')) : 'entries'
}

function packageOf(specifier: string): string {
  return specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/')
}

function readable({ from, to }: Import): string {
  return `lib/${from} imports ${to}`
}

/** Every cycle that a walk along the imports closes, as `a → b → a`. */
function cyclesOf(imports: readonly Import[]): string[] {
  const cycles: string[] = []
  const done = new Set<string>()
  const visit = (file: string, path: readonly string[]) => {
    if (path.includes(file)) cycles.push([...path.slice(path.indexOf(file)), file].join(' → '))
    else if (!done.has(file)) {
      for (const { to } of imports.filter(({ from }) => from === file)) visit(to, [...path, file])
      done.add(file)
    }
  }
  for (const { from } of imports) visit(from, [])
  return cycles
}

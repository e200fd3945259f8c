import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type Module, type ModuleItem, printSync } from '@swc/core'
import { nodesOf, type SyntaxNode, syntaxOf } from './package/syntax.js'

const root = join(import.meta.dirname, '..')
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  name: string
  exports: Record<string, string | { types: string }>
}
const entries = Object.entries(manifest.exports).flatMap(([entry, target]) =>
  typeof target === 'object' ? [[join(manifest.name, entry), target.types] as const] : [],
)

/**
 * What an app can name, with all the types that it leads to. When a change of it is meant:
 * `npm test -- public-surface --updateSnapshot`.
 */
describe('the public surface', () => {
  let dist: string
  afterAll(() => rmSync(dist, { recursive: true }))
  beforeAll(() => {
    dist = mkdtempSync(join(tmpdir(), 'public-surface-'))
    const tsc = join(root, 'node_modules/typescript/bin/tsc')
    execFileSync(process.execPath, [tsc, '--noCheck', '--emitDeclarationOnly', '--outDir', dist], {
      cwd: root,
    })
  }, 60_000)

  it.each(entries)('of %s', (_, types) => {
    expect(surfaceOf(join(dist, types.replace('./dist/', '')))).toMatchSnapshot()
  })
})

/** What an entry's .d.ts exports, and every declaration of ours that this refers to, without comments. */
function surfaceOf(entry: string): string {
  const files = reachableFrom(entry)
  const items = [...files.values()].flat()
  const surface = new Set([
    ...(files.get(entry) ?? []).filter(({ type }) => type !== 'ImportDeclaration'),
    // `declare module` and `declare global` reach an app that names nothing of ours.
    ...items.filter(({ type }) => type === 'TsModuleDeclaration'),
  ])
  for (const item of surface) {
    const names = new Set([...nodesOf(item)].map(namedBy))
    for (const other of items) if (declaredBy(other).some((name) => names.has(name))) surface.add(other)
  }
  return [...new Set([...surface].map(textOf))].sort().join('\n')
}

/** The surface is what an app can name, in whatever file it is declared. */
const FILE_OF_OURS = / from '\.[^']*'/

function textOf(item: ModuleItem): string {
  const { code } = printSync({ type: 'Module', span: { start: 0, end: 0, ctxt: 0 }, body: [item] } as Module)
  return code.replace(FILE_OF_OURS, '')
}

/** The content of a .d.ts file and of all those of ours that it needs. */
function reachableFrom(file: string, files = new Map<string, ModuleItem[]>()): Map<string, ModuleItem[]> {
  if (files.has(file)) return files
  const { body } = syntaxOf(file)
  files.set(file, body)
  for (const node of nodesOf(body)) {
    const specifier = ((node.source ?? node.argument) as { value?: unknown } | undefined)?.value
    if (typeof specifier === 'string' && specifier.startsWith('.')) {
      reachableFrom(join(dirname(file), specifier.replace(/\.js$/, '.d.ts')), files)
    }
  }
  return files
}

/** The syntax context in which swc puts the names that a file declares or imports; parameters and keys have others. */
const MODULE_SCOPE = 2

/** The name of a declaration that a node refers to. */
function namedBy(node: SyntaxNode): unknown {
  if (node.type === 'Identifier' && node.ctxt === MODULE_SCOPE) return node.value
  const name =
    node.type === 'ExportSpecifier' ? node.orig : node.type === 'TsImportType' ? node.qualifier : undefined
  return (name as { value?: unknown } | undefined)?.value
}

/** The names that an item declares in its file. */
function declaredBy(item: ModuleItem): unknown[] {
  const declaration = item.type === 'ExportDeclaration' ? item.declaration : item
  if (declaration.type === 'VariableDeclaration') {
    return declaration.declarations.map(({ id }) => (id as { value?: unknown }).value)
  }
  const { id, identifier } = declaration as { id?: { value: unknown }; identifier?: { value: unknown } }
  return [id?.value ?? identifier?.value].filter((name) => name !== undefined)
}

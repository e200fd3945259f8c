/** Packs the package, looks into the tarball, and uses it in four projects as those who install it would. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'

const root = join(import.meta.dirname, '../..')
const bin = (name: string) => join(root, 'node_modules/.bin', name)
const scratch = mkdtempSync(join(tmpdir(), 'check-package-'))

try {
  const tarball = pack()
  checkContent(tarball)
  run(root, bin('publint'), 'run', tarball, '--strict')
  // The one rule that is left out warns of what works from Node 20.19 on: require() of an ES module.
  run(root, bin('attw'), tarball, '--profile', 'node16', '--ignore-rules', 'cjs-resolves-to-esm')

  const esm = install('esm', tarball)
  run(esm, 'node', 'main.js')
  run(esm, 'node', '--test')

  const cjs = install('cjs', tarball)
  run(cjs, 'node', 'main.js')
  run(cjs, 'node', '--test')

  const typescript = install('typescript', tarball)
  // Its own TypeScript is an older one than ours.
  run(typescript, join(typescript, 'node_modules/.bin/tsc'))
  run(typescript, bin('tsc'))
  run(typescript, 'node', 'dist/main.js')
  run(typescript, 'node', '--test', 'dist/grant-store.js')

  // No types of Express are there.
  const koa = install('koa', tarball)
  run(koa, join(koa, 'node_modules/.bin/tsc'))
  run(koa, bin('tsc'))
  run(koa, 'node', 'dist/main.js')
} finally {
  rmSync(scratch, { recursive: true })
}

function pack(): string {
  run(root, 'npm', 'pack', '--pack-destination', scratch)
  const [name = '', ...others] = readdirSync(scratch)
  assert(name.endsWith('.tgz') && others.length === 0, 'npm pack makes one tarball')
  return join(scratch, name)
}

function checkContent(tarball: string): void {
  run(scratch, 'tar', '-xzf', tarball)
  const packed = join(scratch, 'package')
  const files = readdirSync(packed, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(packed, join(entry.parentPath, entry.name)))

  for (const needed of [
    'CHANGELOG.md',
    'LICENSE',
    'README.md',
    'package.json',
    'dist/index.js',
    'dist/index.d.ts',
  ]) {
    assert(files.includes(needed), `${needed} is missing in the tarball`)
  }
  const meant =
    /^(CHANGELOG\.md|LICENSE|README\.md|package\.json|dist\/(?!.*\.test\.).+\.(js|js\.map|d\.ts))$/
  assert.deepEqual(
    files.filter((file) => !meant.test(file)),
    [],
    'the tarball holds nothing but dist/, README, LICENSE, CHANGELOG and package.json',
  )
  assert.deepEqual(
    files.filter((file) => readFileSync(join(packed, file), 'utf8').includes(root)),
    [],
    'no file names the directory that it was built in',
  )
  for (const file of files.filter((name) => name.endsWith('.js.map'))) checkSourceMap(join(packed, file))
}

function checkSourceMap(file: string): void {
  const { sources, sourcesContent } = JSON.parse(readFileSync(file, 'utf8')) as {
    sources: string[]
    sourcesContent?: (string | null)[]
  }
  const missing = sources.filter(
    (source, index) =>
      typeof sourcesContent?.[index] !== 'string' && !existsSync(join(dirname(file), source)),
  )
  assert.deepEqual(missing, [], `${file} points to sources that are not in the tarball`)
}

/** A copy of a project of ours, outside the tree, with the tarball and what else it needs. */
function install(project: string, tarball: string): string {
  const directory = join(scratch, project)
  cpSync(join(import.meta.dirname, project), directory, { recursive: true })
  run(
    directory,
    'npm',
    'install',
    '--no-audit',
    '--no-fund',
    '--no-package-lock',
    '--prefer-offline',
    tarball,
  )
  return directory
}

function run(directory: string, command: string, ...args: string[]): void {
  console.log(`\n> ${[command, ...args].join(' ')}`)
  execFileSync(command, args, { cwd: directory, stdio: ['ignore', 'inherit', 'inherit'], timeout: 300_000 })
}

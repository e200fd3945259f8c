/** Packs the package, checks the files and the size of the tarball, and uses it in seven projects, as an app would. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'

/** Most bytes of the tarball, and of the files in it: a little more than they are today. */
const PACKED_BYTES = 480_000
const UNPACKED_BYTES = 1_670_000

const root = join(import.meta.dirname, '../..')
const bin = (name: string) => join(root, 'node_modules/.bin', name)
const scratch = mkdtempSync(join(tmpdir(), 'check-package-'))

try {
  const tarball = pack()
  checkContent(tarball)
  run(root, bin('publint'), 'run', tarball, '--strict')
  // The one rule that is left out warns of what the Node of `engines` can do: require() of an ES module.
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

  // The tests of an app, under each test runner.
  const testing = install('testing', tarball)
  const testingBin = (name: string) => join(testing, 'node_modules/.bin', name)
  run(testing, testingBin('jest'), '--config', 'jest.cjs.config.cjs')
  const jest = join(testing, 'node_modules/jest/bin/jest.js')
  run(testing, 'node', '--experimental-vm-modules', jest, '--config', 'jest.esm.config.mjs')
  run(testing, testingBin('vitest'), 'run')
  run(testing, 'node', '--test', 'orders.node.mjs')

  // They have dependencies of their own, which are too large for the root.
  const frameworks = install('frameworks', tarball, join(root, 'examples/frameworks'))
  run(frameworks, bin('tsc'), '-p', '.')
  run(frameworks, 'node', '--import', 'tsx', '--test', 'frameworks.test.js')

  const next = install('next', tarball, join(root, 'examples/frameworks/next'))
  run(next, 'npx', 'next', 'build')
  run(next, 'node', '--test', 'next.test.js')
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
  const meant = /^(CHANGELOG\.md|LICENSE|README\.md|package\.json|dist\/(?!.*\.test\.).+\.(js|d\.ts))$/
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
  const unpacked = files.reduce((bytes, file) => bytes + sizeOf(join(packed, file)), 0)
  checkSize('tarball', sizeOf(tarball), PACKED_BYTES)
  checkSize('unpacked package', unpacked, UNPACKED_BYTES)
}

function sizeOf(file: string): number {
  return statSync(file).size
}

function checkSize(name: string, bytes: number, limit: number): void {
  console.log(`The ${name} has ${bytes} bytes; the limit is ${limit}.`)
  assert(
    bytes <= limit,
    `The ${name} is ${bytes - limit} bytes too large. See with "npm pack --dry-run" what has grown, and make it smaller. ` +
      'Where the growth is worth it, raise the limit in this file in a commit that says why.',
  )
}

/** Copies a project, by default one beside this file, to a place outside the tree, and installs the tarball and its other dependencies there. */
function install(project: string, tarball: string, from = join(import.meta.dirname, project)): string {
  const directory = join(scratch, project)
  cpSync(from, directory, { recursive: true, filter: (path) => !path.endsWith('node_modules') })
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

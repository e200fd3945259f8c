import { fork } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Benchmark } from './harness/benchmark.js'
import { median } from './harness/load.js'

const ROOT = join(import.meta.dirname, '..')
const PEERS = join(import.meta.dirname, 'peers')
const LIBRARY = 'session-token-manager'
/** What is imported, and the package whose size counts. */
const MODULES = {
  [LIBRARY]: LIBRARY,
  [`${LIBRARY}/koa`]: LIBRARY,
  [`${LIBRARY}/proxy`]: LIBRARY,
  [`${LIBRARY}/postgres`]: LIBRARY,
  [`${LIBRARY}/redis`]: LIBRARY,
  axios: 'axios',
  express: 'express',
  'openid-client': 'openid-client',
  'http-proxy-middleware': 'http-proxy-middleware',
}
const PEER_MODULES = { 'express-openid-connect': 'express-openid-connect', 'better-auth': 'better-auth' }

interface Taken {
  readonly cpuMs: number
  readonly heap: number
}

export const benchmark: Benchmark = {
  name: 'imports',
  title: 'What an import takes, and the size with dependencies',
  async run({ quick, peers, progress }) {
    const modules = Object.entries({ ...MODULES, ...(peers && PEER_MODULES) }).map(([name, of]) => ({
      name,
      ...sizeOf(of),
      taken: [] as Taken[],
    }))
    const rounds = quick ? 2 : 15
    for (let round = 0; round < rounds; round++) {
      progress(`round ${round + 1} of ${rounds}`)
      for (const { name, taken } of modules) taken.push(await importOf(name))
    }
    const express = modules.find(({ name }) => name === 'express')!.taken
    const rows = modules.map(({ name, taken, packages, bytes }) => ({
      module: name,
      'CPU ms': median(taken.map(({ cpuMs }) => cpuMs)),
      'times express': median(taken.map(({ cpuMs }, round) => cpuMs / express[round]!.cpuMs)),
      'heap MB': median(taken.map(({ heap }) => heap)) / 1e6,
      packages,
      'installed MB': bytes / 1e6,
    }))
    return {
      rows,
      chart: {
        kind: 'bars',
        title: 'The first import in a process',
        unit: 'CPU time in ms',
        labels: rows.map(({ module }) => module),
        series: [{ name: 'CPU ms', values: rows.map((row) => row['CPU ms']) }],
        highlighted: rows.map(({ module }) => module).filter((module) => module.startsWith(LIBRARY)),
      },
      notes: [
        'Each import is the first one of a process, with its files in the cache of the file system. Installed are the files of the package and of its dependencies.',
      ],
    }
  },
}

async function importOf(name: string): Promise<Taken> {
  const module = name.startsWith(LIBRARY) ? import.meta.resolve(name) : name
  const child = fork(join(PEERS, 'import.js'), [module], { execArgv: [] })
  const [taken] = (await once(child, 'message')) as [Taken]
  child.disconnect()
  return taken
}

/** The packages that a package brings, itself included, and the bytes of their files. */
function sizeOf(name: string): { packages: number; bytes: number } {
  const folders = new Set<string>()
  collect(name === LIBRARY ? ROOT : folderOf(name, PEERS), folders)
  const bytes = [...folders].reduce((sum, folder) => sum + bytesIn(folder, folder === ROOT), 0)
  return { packages: folders.size, bytes }
}

function collect(folder: string, folders: Set<string>): void {
  if (folders.has(folder)) return
  folders.add(folder)
  const { dependencies = {} } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  for (const name of Object.keys(dependencies)) collect(folderOf(name, folder), folders)
}

/** Finds a package as Node.js does, from a folder upwards. */
function folderOf(name: string, from: string): string {
  const folder = join(from, 'node_modules', name)
  if (existsSync(join(folder, 'package.json'))) return folder
  if (dirname(from) === from) throw new Error(`${name} is not installed`)
  return folderOf(name, dirname(from))
}

function bytesIn(folder: string, isRoot: boolean): number {
  const files = readdirSync(folder, { withFileTypes: true, recursive: !isRoot })
  const own = files
    .filter(
      (file) => file.isFile() && !join(file.parentPath, '').slice(folder.length).includes('node_modules'),
    )
    .filter((file) => !isRoot || /^(package\.json|README\.md|CHANGELOG\.md|LICENSE)$/.test(file.name))
    .reduce((sum, file) => sum + statSync(join(file.parentPath, file.name)).size, 0)
  return isRoot ? own + bytesIn(join(folder, 'dist'), false) : own
}

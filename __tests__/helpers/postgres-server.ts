import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { chownSync, existsSync, readdirSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { dieTogether, gone, onPath } from './child-process.js'
import { freePort } from './free-port.js'

/** Where Debian has the programs of each version. */
const DEBIAN = '/usr/lib/postgresql'
const STARTS_WITHIN_MS = 30_000

/** A throw-away PostgreSQL. */
export interface PostgresServer {
  readonly port: number
  readonly url: string
  /** Ends it at once, as a crash does: it recovers at its next start. */
  kill(): Promise<void>
  /** Starts it again with its data; ends it first if it runs. */
  restart(): Promise<void>
  /** Puts an empty database in its place, as a failover to a new server does. */
  replaceByEmpty(): Promise<void>
  /** Copies its data, and returns a function that puts the copy in its place, as the promotion of a late replica does. */
  backUp(): Promise<() => Promise<void>>
  /** Turns it into a replica with the data of this moment, which takes no writes. */
  becomeReplica(): Promise<void>
  /** Connections stay open, and nothing is answered. */
  pause(): void
  resume(): void
  close(): Promise<void>
}

/** The folder of `initdb` and `postgres`; `undefined` if this machine has none. */
export function postgresPrograms(): string | undefined {
  const initdb = onPath('initdb')
  if (initdb !== undefined) return join(initdb, '..')
  if (!existsSync(DEBIAN)) return undefined
  const versions = readdirSync(DEBIAN).sort((a, b) => Number(b) - Number(a))
  return versions
    .map((version) => join(DEBIAN, version, 'bin'))
    .find((bin) => existsSync(join(bin, 'initdb')))
}

/** PostgreSQL refuses to run as root. */
function owner(): { readonly uid?: number; readonly gid?: number } {
  if (process.getuid?.() !== 0) return {}
  const idOf = (kind: string) => Number(execFileSync('id', [kind, 'postgres'], { encoding: 'utf8' }))
  return { uid: idOf('-u'), gid: idOf('-g') }
}

/** Starts a PostgreSQL of its own in a temporary folder, on a free port of 127.0.0.1, with the user `postgres` and no password. */
export async function startPostgres(
  settings: Readonly<Record<string, string>> = {},
): Promise<PostgresServer> {
  const programs = postgresPrograms()
  if (programs === undefined) throw new Error('This machine has no PostgreSQL.')
  const as = owner()
  const home = await mkdtemp(join(tmpdir(), 'postgres-'))
  if (as.uid !== undefined) chownSync(home, as.uid, as.gid!)
  const port = await freePort()
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`
  const data = join(home, 'data')
  const empty = join(home, 'empty')
  const copyTo = (from: string, to: string) => execFileSync('cp', ['-a', from, to], as)

  const initdb = ['-D', empty, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync']
  execFileSync(join(programs, 'initdb'), initdb, { ...as, cwd: home, stdio: 'ignore' })
  copyTo(empty, data)

  const launch = async () => {
    const all = {
      port: String(port),
      listen_addresses: '127.0.0.1',
      unix_socket_directories: '',
      // What the machine itself would lose in a crash is not tested.
      fsync: 'off',
      ...settings,
    }
    const options = Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`])
    const started = spawn(join(programs, 'postgres'), ['-D', data, ...options], {
      ...as,
      cwd: home,
      stdio: 'ignore',
    })
    dieTogether(started)
    await untilReady(url, started)
    return started
  }
  let child = await launch()

  const kill = async () => {
    // All of its processes end at once, without a word to the clients and without a checkpoint.
    child.kill('SIGQUIT')
    await gone(child)
  }
  const replaceBy = async (directory: string) => {
    await kill()
    await rm(data, { recursive: true, force: true })
    copyTo(directory, data)
    child = await launch()
  }
  return {
    port,
    url,
    kill,
    async restart() {
      await kill()
      child = await launch()
    },
    replaceByEmpty: () => replaceBy(empty),
    async backUp() {
      const copy = join(home, `copy-${Date.now()}`)
      const client = new pg.Client(url)
      await client.connect()
      await client.query('checkpoint')
      await client.end()
      signalAll(child, 'SIGSTOP')
      copyTo(data, copy)
      signalAll(child, 'SIGCONT')
      await rm(join(copy, 'postmaster.pid'), { force: true })
      return () => replaceBy(copy)
    },
    async becomeReplica() {
      await kill()
      execFileSync('touch', [join(data, 'standby.signal')], as)
      child = await launch()
    },
    pause: () => signalAll(child, 'SIGSTOP'),
    resume: () => signalAll(child, 'SIGCONT'),
    async close() {
      signalAll(child, 'SIGCONT')
      await kill()
      await rm(home, { recursive: true, force: true })
    },
  }
}

/** Signals the server and the processes of its connections. One of these may have ended since it was listed. */
function signalAll(child: ChildProcess, signal: NodeJS.Signals): void {
  const pids = childrenOf(child.pid!)
  process.kill(child.pid!, signal)
  for (const pid of pids) {
    try {
      process.kill(pid, signal)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
}

function childrenOf(pid: number): number[] {
  try {
    const pids = execFileSync('ps', ['-o', 'pid=', '--ppid', String(pid)], { encoding: 'utf8' })
    return pids.trim().split(/\s+/).filter(Boolean).map(Number)
  } catch {
    return []
  }
}

/** Resolves when the server accepts connections. */
async function untilReady(url: string, child: ChildProcess): Promise<void> {
  const until = Date.now() + STARTS_WITHIN_MS
  for (;;) {
    const client = new pg.Client(url)
    client.on('error', () => {})
    try {
      await client.connect()
      await client.end()
      return
    } catch (error) {
      if (child.exitCode !== null) throw new Error(`PostgreSQL ended with ${child.exitCode}`)
      if (Date.now() > until) throw error
      await delay(50)
    }
  }
}

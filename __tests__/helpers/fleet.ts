import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { Redis } from 'ioredis'
import type { SessionTokensOptions, TokenEvent } from '../../lib/index.js'
import type { TokenSet } from '../../lib/tokens/token-set.js'
import type { AuthorizationServer } from './authorization-server.js'
import { type Browser, browser } from './browser.js'
import { dieTogether, gone, hasGone } from './child-process.js'
import type {
  FleetEvent,
  FleetProcessOptions,
  GrantStoreStep,
  HoldPoint,
  News,
  Order,
} from './fleet-process.js'
import { tokensIn } from './site.js'
import { sessionIdOf } from './stores.js'

export interface FleetOptions {
  /** How many. */
  readonly processes: number
  readonly server: Pick<AuthorizationServer, 'tokenEndpoint' | 'revocationEndpoint' | 'clients' | 'login'>
  /** Where the grants are, and the sessions if they are nowhere else. */
  readonly redis: { readonly url: string }
  /** Where the grants are if not in that Redis: another Redis, or a PostgreSQL. */
  readonly grants?: { readonly url: string }
  readonly sessions?: { readonly url: string }
  /** Options of `sessionTokens()` that survive JSON. */
  readonly tokens?: Partial<SessionTokensOptions>
  /** Options of express-session that survive JSON. */
  readonly session?: { readonly resave?: boolean; readonly rolling?: boolean }
}

/** A point where a process waits, until it is released or killed. */
export interface ProcessHold {
  /** Resolves when somebody is waiting. */
  readonly reached: Promise<void>
  release(): Promise<void>
}

/**
 * A process that serves the app. Paths: `/token`, `/login`, `/logout`, `/session`, `/write?key=…&value=…`, and for jobs `/reference`
 * and `/job`.
 */
export interface FleetProcess {
  /** Where it listens; somewhere else after a restart. */
  readonly url: string
  readonly pid: number
  /** Whether it has ended. */
  readonly exited: boolean
  /** Ends it at once (SIGKILL). */
  kill(): Promise<void>
  /** Has it end in its own time (SIGTERM). Resolves with the exit code when it has. */
  terminate(): Promise<number | null>
  pause(): void
  resume(): void
  /** Starts it again. Ends it first if it runs. */
  restart(): Promise<void>
  /** What `onEvent` was told since the process started. */
  events(): Promise<readonly FleetEvent[]>
  /** Resolves when `onEvent` is told something of this type after the call. */
  told(type: TokenEvent['type']): Promise<void>
  /** What the grant store was asked since the process started. */
  steps(): Promise<readonly GrantStoreStep[]>
  /** Resolves when so many more requests for a token have come than had when it was called. */
  asked(count: number): Promise<void>
  /** Resolves when so many more clients have disconnected before they got a token. */
  left(count: number): Promise<void>
  /** From now on whoever comes to this point waits. */
  hold(point: HoldPoint): Promise<ProcessHold>
}

/** Somebody with a session, who may ask any process. */
export interface Visitor {
  /** The visitor's browser at a process. */
  at(process: FleetProcess): Browser
  /** The session as it is stored, past all processes. */
  stored(): Promise<Record<string, unknown> | undefined>
  storedTokens(): Promise<TokenSet | undefined>
}

export interface Fleet {
  readonly processes: readonly FleetProcess[]
  /** Logs a user in, at the first process unless another is named. */
  login(
    account: string,
    options?: {
      at?: FleetProcess
      expired?: boolean
      login?: Parameters<AuthorizationServer['login']>[1]
    },
  ): Promise<Visitor>
  close(): Promise<void>
}

/** Starts processes that serve one app behind one authorization server, over real Redis. */
export async function startFleet(options: FleetOptions): Promise<Fleet> {
  const { clientId, clientSecret } = options.server.clients.client_secret_basic
  const sessionsUrl = (options.sessions ?? options.redis).url
  const settings = {
    sessionsUrl,
    grantsUrl: (options.grants ?? options.redis).url,
    tokenEndpoint: options.server.tokenEndpoint,
    revocationEndpoint: options.server.revocationEndpoint,
    clientId,
    clientSecret,
    tokens: options.tokens ?? {},
    session: options.session ?? {},
  }
  const processes = await Promise.all(Array.from({ length: options.processes }, () => startProcess(settings)))
  const sessions = new Redis(sessionsUrl)
  sessions.on('error', () => {})

  return {
    processes,
    async login(account, { at = processes[0]!, expired = false, login: how } = {}) {
      const answer = await options.server.login(account, how)
      const tab = browser(at.url)
      const login = await tab.post(
        '/login',
        expired ? { ...answer, expires_in: undefined, expires_at: 1 } : answer,
      )
      if (login.status !== 200) throw new Error(`login failed: ${login.status} ${login.text}`)
      return visitor(tab.cookie('connect.sid')!, sessions)
    },
    async close() {
      sessions.disconnect()
      await Promise.all(processes.map((process) => process.kill()))
    },
  }
}

function visitor(cookie: string, sessions: Redis): Visitor {
  const stored = async () => {
    const text = await sessions.get(`sess:${sessionIdOf(cookie)}`)
    return text === null ? undefined : JSON.parse(text)
  }
  return {
    at(process) {
      const tab = browser(process.url)
      tab.setCookie('connect.sid', cookie)
      return tab
    },
    stored,
    storedTokens: async () => tokensIn(await stored()),
  }
}

async function startProcess(settings: FleetProcessOptions): Promise<FleetProcess> {
  let run = await launch(settings)
  const kill = async () => {
    run.child.kill('SIGKILL')
    await gone(run.child)
  }
  return {
    get url() {
      return run.url
    },
    get pid() {
      return run.child.pid!
    },
    get exited() {
      return hasGone(run.child)
    },
    kill,
    async terminate() {
      run.child.kill('SIGTERM')
      await gone(run.child)
      return run.child.exitCode
    },
    pause: () => void run.child.kill('SIGSTOP'),
    resume: () => void run.child.kill('SIGCONT'),
    async restart() {
      await kill()
      run = await launch(settings)
    },
    async events() {
      await run.order({ say: 'hello' })
      return run.events
    },
    told(type) {
      const before = run.told(type)
      return run.heard(() => run.told(type) > before)
    },
    async steps() {
      await run.order({ say: 'hello' })
      return run.steps
    },
    asked(count) {
      const until = run.asked + count
      return run.heard(() => run.asked >= until)
    },
    left(count) {
      const until = run.left + count
      return run.heard(() => run.left >= until)
    },
    async hold(point) {
      await run.order({ hold: point })
      const before = run.reached(point)
      return {
        reached: run.heard(() => run.reached(point) > before),
        release: () => run.order({ release: point }),
      }
    },
  }
}

type Task = Order extends infer O ? (O extends Order ? Omit<O, 'id'> : never) : never

/** One run of a process, from its start to its end. */
interface Run {
  readonly child: ChildProcess
  readonly url: string
  readonly events: readonly FleetEvent[]
  readonly steps: readonly GrantStoreStep[]
  readonly asked: number
  readonly left: number
  told(type: TokenEvent['type']): number
  reached(point: HoldPoint): number
  /** Resolves when the process has done it, and all that it told before has been heard. */
  order(task: Task): Promise<void>
  /** Resolves when something is so, which is looked at whenever the process tells something. */
  heard(isSo: () => boolean): Promise<void>
}

const PROGRAM = fileURLToPath(new URL('./fleet-process.ts', import.meta.url))

async function launch(settings: FleetProcessOptions): Promise<Run> {
  const child = spawn(process.execPath, ['--import', 'tsx', PROGRAM], {
    env: { ...process.env, FLEET_PROCESS: JSON.stringify(settings) },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  dieTogether(child)
  const said = outputOf(child)
  const news: News[] = []
  const waiting = new Set<() => void>()
  child.on('message', (message: News) => {
    news.push(message)
    for (const look of waiting) look()
  })
  // Nobody waits for what a process that has gone could tell.
  child.once('exit', () => waiting.clear())

  const heard = (isSo: () => boolean) =>
    new Promise<void>((resolve) => {
      const look = () => {
        if (!isSo()) return
        waiting.delete(look)
        resolve()
      }
      waiting.add(look)
      look()
    })
  const all = <K extends string>(key: K) =>
    news.flatMap((message) => (key in message ? [(message as Record<K, unknown>)[key]] : []))
  let orders = 0

  await Promise.race([
    heard(() => all('ready').length > 0),
    gone(child).then(() => Promise.reject(new Error(`a process of the fleet did not start\n${said()}`))),
  ])
  void gone(child).then(() => {
    const { exitCode } = child
    if (exitCode) process.stderr.write(`a process of the fleet ended with ${exitCode}\n${said()}\n`)
  })
  const [url] = all('ready') as [string]

  return {
    child,
    url,
    get events() {
      return all('event') as FleetEvent[]
    },
    get steps() {
      return all('step') as GrantStoreStep[]
    },
    get asked() {
      return all('asked').length
    },
    told: (type) => (all('event') as FleetEvent[]).filter((event) => event.type === type).length,
    get left() {
      return all('left').length
    },
    reached: (point) => all('reached').filter((reached) => reached === point).length,
    order(task) {
      const id = ++orders
      child.send({ ...task, id })
      return heard(() => all('done').includes(id))
    },
    heard,
  }
}

/** Takes in what a child prints, to be shown if it fails. */
function outputOf(child: ChildProcess): () => string {
  const chunks: Buffer[] = []
  child.stdout!.on('data', (chunk) => chunks.push(chunk))
  child.stderr!.on('data', (chunk) => chunks.push(chunk))
  return () => Buffer.concat(chunks).toString()
}

import session, { type SessionData } from 'express-session'
import type { SessionStore } from '../../lib/sessions/store/original-store.js'
import { patchedStore } from '../../lib/sessions/store/patched-store.js'
import type { Step } from './model-authorization-server.js'

type Callback = (error?: unknown, result?: SessionData) => void
type Saved = SessionData & { req?: object }

/** What outlives a process: the sessions, and what they would be if only the app had ever written them. */
export class ModelDisk {
  readonly sessions = new Map<string, string>()
  readonly appAlone = new Map<string, string>()
  readonly violations: string[] = []
  /** Sessions that the app could not store the first time: nobody will find them. */
  readonly lost = new Set<string>()

  /** The session as it is stored now. */
  peek(sid: string): (SessionData & { tokens?: string }) | undefined {
    const text = this.sessions.get(sid)
    return text === undefined ? undefined : JSON.parse(text)
  }

  /** Compares what is stored with what the app alone would have stored. */
  check(when: string): void {
    for (const sid of new Set([...this.sessions.keys(), ...this.appAlone.keys()])) {
      const stored = this.sessions.get(sid)
      const app = stored === undefined ? undefined : appData(stored)
      if (app !== this.appAlone.get(sid)) {
        this.violations.push(
          `I3: ${when}: ${sid} holds ${app}, the app alone would have ${this.appAlone.get(sid)}`,
        )
      }
    }
  }
}

export interface ModelStoreOptions {
  /** Whether the n-th write fails. */
  readonly faults: boolean[]
  /** Whether `touch` stores the session as it is given, as some stores do, or its cookie alone. */
  readonly touchWrites: boolean
}

/** An express-session store over a disk, in which every operation takes one step to arrive and one to be answered. */
export class ModelSessionStore extends session.Store {
  /** The sessions that the app gave to `set`, in order. */
  readonly appSaves: Saved[] = []
  readonly #disk: ModelDisk
  readonly #step: Step
  readonly #options: ModelStoreOptions

  constructor(disk: ModelDisk, step: Step, options: ModelStoreOptions) {
    super()
    this.#disk = disk
    this.#step = step
    this.#options = options
    patchedStore(this as unknown as SessionStore)
    const { set } = this
    this.set = (sid: string, saved: Saved, callback?: Callback) => {
      this.appSaves.push(saved)
      return set.call(this, sid, saved, callback)
    }
  }

  override get(sid: string, callback: Callback): void {
    let found: SessionData | undefined
    const read = () => {
      found = this.#disk.peek(sid)
    }
    this.#operation(`get ${sid}`, read).then(() => callback(null, found))
  }

  override set(sid: string, saved: Saved, callback?: Callback): void {
    const text = JSON.stringify(saved)
    const byApp = isOfRequest(saved)
    if (byApp && !this.appSaves.some((given) => appData(JSON.stringify(given)) === appData(text))) {
      this.#disk.violations.push(`I3: the app never saved ${appData(text)}`)
    }
    const fails = this.#options.faults.shift() ?? false
    const label = `${byApp ? 'app' : 'library'} sets ${sid}${fails ? ', failing' : ''}`
    const write = () => {
      if (fails && !this.#disk.sessions.has(sid)) this.#disk.lost.add(sid)
      if (fails) throw new Error('the disk is full')
      if (byApp) this.#writeOfApp(sid, text)
      else this.#writeOfLibrary(sid, text)
    }
    this.#operation(label, write).then(() => callback?.(), callback)
  }

  override touch(sid: string, touched: SessionData, callback?: () => void): void {
    const text = JSON.stringify(touched)
    const write = () => {
      if (this.#options.touchWrites && this.#disk.sessions.has(sid)) this.#writeOfApp(sid, text)
    }
    this.#operation(`touch ${sid}`, write).then(() => callback?.())
  }

  override destroy(sid: string, callback?: Callback): void {
    const write = () => {
      this.#disk.sessions.delete(sid)
      this.#disk.appAlone.delete(sid)
    }
    this.#operation(`destroy ${sid}`, write).then(() => callback?.())
  }

  #writeOfApp(sid: string, text: string): void {
    this.#disk.sessions.set(sid, text)
    this.#disk.appAlone.set(sid, appData(text))
  }

  #writeOfLibrary(sid: string, text: string): void {
    if (!this.#disk.sessions.has(sid))
      this.#disk.violations.push(`I3: ${sid} was brought back by the library`)
    this.#disk.sessions.set(sid, text)
    this.#disk.check(`after a write of the library's`)
  }

  async #operation(what: string, effect: () => void): Promise<void> {
    await this.#step(what)
    let failure: unknown
    try {
      effect()
    } catch (error) {
      failure = error
    }
    await this.#step(`${what}: answer`)
    if (failure !== undefined) throw failure
  }
}

/** Whether a session was loaded for a request, rather than read by the library. */
function isOfRequest(saved: Saved): boolean {
  return saved.req !== undefined && 'headers' in saved.req
}

function appData(text: string): string {
  const { cookie: _, tokens: __, ...data } = JSON.parse(text)
  return JSON.stringify(data, Object.keys(data).sort())
}

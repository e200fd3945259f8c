/** The tasks that go on after their callers have returned. */
export class BackgroundTasks {
  readonly #tasks = new Map<string, Promise<unknown>>()
  readonly #waitUntil: ((work: Promise<unknown>) => void) | undefined

  /** @param waitUntil keeps the process awake until a promise settles, on platforms that freeze it after a response */
  constructor(waitUntil?: (work: Promise<unknown>) => void) {
    this.#waitUntil = waitUntil
  }

  /** Keeps a task until it has ended. Its failure has no effect here. */
  run(name: string, task: Promise<unknown>): void {
    const ended = task.then(ignore, ignore).then(() => {
      if (this.#tasks.get(name) === ended) this.#tasks.delete(name)
    })
    this.#tasks.set(name, ended)
    const waitUntil = this.#waitUntil
    // A platform throws outside of its requests, such as in a job. The task goes on all the same.
    if (waitUntil) new Promise((resolve) => resolve(waitUntil(ended))).catch(ignore)
  }

  /** Starts a task, unless one of this name is running. */
  runOnce(name: string, task: () => Promise<unknown>): void {
    if (!this.#tasks.has(name)) this.run(name, task())
  }

  /** Resolves when no task is running. */
  async drain(): Promise<void> {
    while (this.#tasks.size > 0) await Promise.allSettled(this.#tasks.values())
  }
}

function ignore(): void {}

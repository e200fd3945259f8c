/** Runs one task at a time: at once, or when the previous task has ended. */
export type SerialQueue = <T>(task: () => Promise<T>) => Promise<T>

/** Returns an empty queue. */
export function serialQueue(): SerialQueue {
  let last: Promise<unknown> | undefined
  return (task) => {
    const result = last ? last.then(task) : task()
    const ended = result.then(ignore, ignore)
    last = ended
    void ended.then(() => {
      if (last === ended) last = undefined
    })
    return result
  }
}

function ignore(): void {}

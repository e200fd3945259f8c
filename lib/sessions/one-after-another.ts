/** Runs one work at a time: at once, or when the one before it is over. */
export type Queue = <T>(work: () => Promise<T>) => Promise<T>

/** A queue of works, empty at first. */
export function oneAfterAnother(): Queue {
  let last: Promise<unknown> | undefined
  return (work) => {
    const result = last ? last.then(work) : work()
    const over = result.then(ignore, ignore)
    last = over
    void over.then(() => {
      if (last === over) last = undefined
    })
    return result
  }
}

function ignore(): void {}

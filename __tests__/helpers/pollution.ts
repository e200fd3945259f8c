import { join } from 'node:path'

const LIB = join(import.meta.dirname, '../../lib/')

/** Names as properties of `Object.prototype`, as a careless merge leaves them. */
export interface Pollution {
  /** What lines of lib/ have read of them: `name at file:line`. */
  readonly reads: readonly string[]
  end(): void
}

/**
 * Puts properties on `Object.prototype`, enumerable as those of a careless merge are, and notes which of them code of
 * lib/ reads. Dependencies read them too, and find nothing.
 */
export function pollute(names: Iterable<string>, value?: unknown): Pollution {
  const reads: string[] = []
  const put = [...new Set(names)].filter((name) => !Object.hasOwn(Object.prototype, name))
  for (const name of put) {
    Object.defineProperty(Object.prototype, name, {
      configurable: true,
      enumerable: true,
      get() {
        const at = readerOf(new Error().stack)
        if (at !== undefined) reads.push(`${name} at ${at}`)
        return at === undefined ? undefined : value
      },
      set(own: unknown) {
        Object.defineProperty(this, name, {
          configurable: true,
          enumerable: true,
          writable: true,
          value: own,
        })
      },
    })
  }
  return {
    reads,
    end() {
      for (const name of put) delete (Object.prototype as unknown as Record<string, unknown>)[name]
    },
  }
}

/** Where a getter was called, if that is in lib/. The first two lines are the message and the getter itself. */
function readerOf(stack = ''): string | undefined {
  const caller = stack.split('\n')[2] ?? ''
  const start = caller.indexOf(LIB)
  return start < 0 ? undefined : caller.slice(start + LIB.length).replace(/\)$/, '')
}

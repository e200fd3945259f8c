import { inspect } from 'node:util'

/**
 * All texts that a value leads to: by its own properties, symbols and getters among them, by what collections hold, as JSON
 * and as `inspect()` shows it.
 */
export function reachableTexts(value: unknown): string {
  const texts = [inspect(value, { depth: 20, showHidden: true, maxStringLength: null, maxArrayLength: null })]
  try {
    texts.push(JSON.stringify(value) ?? '')
  } catch {
    // Leads back to itself.
  }
  const seen = new Set<unknown>()
  const left: unknown[] = [value]
  while (left.length > 0) {
    const next = left.pop()
    if (seen.has(next)) continue
    seen.add(next)
    if (typeof next === 'string') texts.push(next)
    if ((typeof next !== 'object' && typeof next !== 'function') || next === null) continue
    if (next === globalThis || next === process) continue
    if (ArrayBuffer.isView(next)) {
      texts.push(Buffer.from(next.buffer, next.byteOffset, next.byteLength).toString('latin1'))
      continue
    }
    if (next instanceof Map) left.push(...next.keys(), ...next.values())
    if (next instanceof Set) left.push(...next)
    for (const name of Reflect.ownKeys(next)) left.push(name, read(next, name))
  }
  return texts.join('\n')
}

function read(value: object, name: string | symbol): unknown {
  try {
    return Reflect.get(value, name)
  } catch {
    return undefined
  }
}

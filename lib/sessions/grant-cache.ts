import { LRUCache } from 'lru-cache'

/** An entry of a {@link GrantCache}, which names its grant. */
interface OfGrant {
  readonly grantId: string
}

/**
 * Returns the options of an `LRUCache` of at most `max` entries, which takes memory for the entries that it has. With the option
 * `max` it takes the memory of all entries when it is made: too much for an app of many tenants.
 */
export function atMost(max: number): { readonly maxSize: number; readonly sizeCalculation: () => number } {
  return { maxSize: max, sizeCalculation: () => 1 }
}

/** A bounded cache of values that belong to grants. The values of one grant can be forgotten together. */
export class GrantCache<V extends OfGrant> extends LRUCache<string, V> {
  readonly #keys = new Map<string, Set<string>>()

  constructor(max: number) {
    super({ ...atMost(max), dispose: ({ grantId }, key) => this.#removeKey(grantId, key) })
  }

  /** Adds a value, or replaces the value of the key. */
  add(key: string, value: V): void {
    this.set(key, value)
    const keys = this.#keys.get(value.grantId) ?? new Set()
    this.#keys.set(value.grantId, keys.add(key))
  }

  /** Forgets the values of a grant, or those of them that `isForgotten` names. */
  forget(grantId: string, isForgotten: (value: V) => boolean = () => true): void {
    for (const key of this.#keys.get(grantId) ?? []) {
      const value = this.peek(key)
      if (value && isForgotten(value)) this.delete(key)
    }
  }

  #removeKey(grantId: string, key: string): void {
    const keys = this.#keys.get(grantId)
    keys?.delete(key)
    if (keys?.size === 0) this.#keys.delete(grantId)
  }
}

import type { GrantIdentity } from '../tokens/grant-proof.js'

/** Called without arguments: the listener itself asks why the grant has ended. */
type Listener = () => void

/**
 * The listeners that are called when a grant, or the share of one session, has ended. A grant without listeners costs nothing.
 */
export class EndListeners {
  readonly #listeners = new Map<string, Set<Listener>>()

  /** Adds a listener. Returns a function that removes it. */
  add({ grantId }: GrantIdentity, listener: Listener): () => void {
    const listeners = this.#listeners.get(grantId) ?? new Set()
    this.#listeners.set(grantId, listeners)
    listeners.add(listener)
    return () => {
      listeners.delete(listener)
      if (listeners.size === 0 && this.#listeners.get(grantId) === listeners) this.#listeners.delete(grantId)
    }
  }

  /** Calls the listeners of a grant. */
  notify(grantId: string): void {
    for (const listener of [...(this.#listeners.get(grantId) ?? [])]) listener()
  }
}

import type { GrantStore, RecentEnd } from '../../lib/grants/grant-store.js'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'

/** The grant store as one process reaches it. */
export interface HubConnection {
  readonly store: GrantStore
  /** The methods that this process has called, without the news that it published. */
  readonly calls: readonly string[]
  forget(): void
  /** From now on no text reaches this process. */
  cutOff(): void
  /** Texts reach it again, and it is told so, as after a reconnection. */
  reconnect(): void
  /** From now on every operation waits until `comeBack()`. */
  hang(): void
  comeBack(): void
}

/** A grant store that several processes share, with news, in the memory of the test. */
export function newsHub() {
  const inner = memoryGrantStore()
  const ends: (RecentEnd & { readonly at: number })[] = []
  const listeners = new Set<(text: string) => void>()

  function connect(): HubConnection {
    const calls: string[] = []
    let isCutOff = false
    let opens: (() => void)[] = []
    let present: Promise<void> | undefined
    let comeBack = () => {}

    const counted =
      <A extends unknown[], R>(name: string, method: (...args: A) => Promise<R>) =>
      async (...args: A): Promise<R> => {
        calls.push(name)
        await present
        return method(...args)
      }

    const store: GrantStore = {
      lease: counted('lease', inner.lease.bind(inner)),
      renew: counted('renew', inner.renew.bind(inner)),
      commit: counted('commit', inner.commit.bind(inner)),
      release: counted('release', inner.release.bind(inner)),
      read: counted('read', inner.read.bind(inner)),
      grantsWith: counted('grantsWith', async (label: string) => inner.grantsWith!(label)),
      end: counted('end', async (grantId, why, retention) => {
        ends.push({ grantId, ended: why, at: Date.now() })
        return inner.end(grantId, why, retention)
      }),
      recentEnds: counted('recentEnds', async (withinMs: number) =>
        ends.filter(({ at }) => at >= Date.now() - withinMs),
      ),
      async publish(text) {
        await present
        for (const listener of listeners) listener(text)
      },
      subscribe(listener, onOpen = () => {}) {
        const hear = (text: string) => void (isCutOff || listener(text))
        listeners.add(hear)
        opens.push(onOpen)
        setImmediate(onOpen)
        return () => {
          listeners.delete(hear)
          opens = opens.filter((each) => each !== onOpen)
        }
      },
    }
    return {
      store,
      calls,
      forget: () => void calls.splice(0),
      cutOff() {
        isCutOff = true
      },
      reconnect() {
        isCutOff = false
        for (const onOpen of opens) onOpen()
      },
      hang() {
        present = new Promise((resolve) => {
          comeBack = resolve
        })
      },
      comeBack() {
        present = undefined
        comeBack()
      },
    }
  }
  return {
    connect,
    /** The ends so far are no longer listed: an hour has passed. */
    forgetRecentEnds: () => void ends.splice(0),
  }
}

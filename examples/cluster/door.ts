import { EventEmitter, once } from 'node:events'
import type { RequestListener } from 'node:http'

/** A gate before an authorization server, which can hold token requests back. */
export interface Door {
  /** Mounts the gate before an authorization server. */
  readonly guard: (authorizationServer: RequestListener) => RequestListener
  /** The `User-Agent` of each token request that has passed, in order. */
  readonly guests: readonly string[]
  /** From now on token requests wait, unread. */
  shut(): void
  /** Lets the waiting requests pass. Requests whose client has disconnected are dropped. */
  open(): void
  /** Resolves with the `User-Agent` of the next request that has to wait. */
  arrival(): Promise<string>
  /** Resolves when the client of a waiting request has disconnected. */
  departure(): Promise<void>
}

export function frontDoor(): Door {
  const guests: string[] = []
  const events = new EventEmitter()
  let isShut = false

  return {
    guests,
    guard: (authorizationServer) => async (req, res) => {
      if (req.method !== 'POST' || req.url !== '/token') return authorizationServer(req, res)
      const guest = req.headers['user-agent'] ?? 'an unnamed client'
      if (isShut) {
        res.once('close', () => events.emit('departure'))
        events.emit('arrival', guest)
        await once(events, 'open')
        if (req.socket.destroyed) return
      }
      guests.push(guest)
      authorizationServer(req, res)
    },
    shut() {
      isShut = true
    },
    open() {
      isShut = false
      events.emit('open')
    },
    arrival: async () => (await once(events, 'arrival'))[0],
    departure: async () => void (await once(events, 'departure')),
  }
}

import { EventEmitter, once } from 'node:events'
import type { RequestListener } from 'node:http'

/** The front door of an authorization server: who comes with token requests. */
export interface Door {
  /** Puts it in front of an authorization server. */
  readonly guard: (authorizationServer: RequestListener) => RequestListener
  /** Who was let in with a token request, by `User-Agent`, in order. */
  readonly guests: readonly string[]
  /** From now on token requests wait outside, unread. */
  shut(): void
  /** Lets those in who still wait. Whoever has gone was never there. */
  open(): void
  /** Resolves with who is the next to find the door shut. */
  arrival(): Promise<string>
  /** Resolves when the next of those who waited has gone. */
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
      const guest = req.headers['user-agent'] ?? 'somebody'
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

import type { Request } from 'express'

declare module 'express-session' {
  interface SessionData {
    views?: number
    user?: string
    cart?: string[]
  }
}

type Settle = (error?: unknown) => void

function settled(deed: (callback: Settle) => unknown): Promise<void> {
  return new Promise((resolve, reject) => deed((error) => (error ? reject(error) : resolve())))
}

export function saved(request: Request): Promise<void> {
  return settled((callback) => request.session.save(callback))
}

export function reloaded(request: Request): Promise<void> {
  return settled((callback) => request.session.reload(callback))
}

export function destroyed(request: Request): Promise<void> {
  return settled((callback) => request.session.destroy(callback))
}

export function destroyedByStore(request: Request): Promise<void> {
  return settled((callback) => request.sessionStore.destroy(request.sessionID, callback))
}

/** Gives the session a new id and leaves its data behind. */
export function regenerated(request: Request): Promise<void> {
  return settled((callback) => request.session.regenerate(callback))
}

/** Gives the session a new id and carries its data over, as an app does after a change of rights. */
export async function regeneratedWithData(request: Request): Promise<void> {
  const { cookie: _, ...data } = request.session
  await regenerated(request)
  Object.assign(request.session, data)
}

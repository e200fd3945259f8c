import { ConfigurationError } from '../errors.js'
import type { KoaContext } from './koa-context.js'
import { KoaStoreSessions } from './koa-session.js'
import type { SessionAdapter } from './session-adapter.js'
import type { SessionLayer, SessionLayerContext } from './session-layer.js'

/** What koa-session has on its session objects; what it stores beside the session begins with an underscore. */
const RESERVED_SESSION_KEYS = [
  ...['commit', 'externalKey', 'inspect', 'isNew', 'length', 'manuallyCommit', 'maxAge', 'populated'],
  ...['regenerate', 'save', 'toJSON'],
]

/** The session layers of Koa apps: koa-session with an external store. */
export function koaSessions(context: SessionLayerContext): SessionLayer<KoaContext> {
  checkKey(context.key)
  const stored = new KoaStoreSessions(context)
  return {
    of(ctx) {
      const options = ctx.sessionOptions
      if (!options) return new NoSession(notMounted)
      if (options.ContextStore) return new NoSession(contextStore)
      if (!options.store) return new NoSession(noStore)
      return stored.of(ctx)
    },
    close: () => stored.close(),
  }
}

/** What a request has whose session is of no use: whoever needs it is told why. */
class NoSession implements SessionAdapter {
  readonly isInAnswer = false
  readonly seen = undefined
  readonly #error: () => ConfigurationError

  constructor(error: () => ConfigurationError) {
    this.#error = error
  }

  read(): never {
    throw this.#error()
  }

  checkStorable(): never {
    throw this.#error()
  }

  async reread(): Promise<never> {
    throw this.#error()
  }

  async save(): Promise<never> {
    throw this.#error()
  }

  async replace(): Promise<never> {
    throw this.#error()
  }

  async clear(): Promise<never> {
    throw this.#error()
  }
}

function checkKey(key: string): void {
  if (!RESERVED_SESSION_KEYS.includes(key) && !key.startsWith('_')) return
  throw new ConfigurationError(
    `\`sessionKey\` must not be '${key}', which koa-session keeps for itself. Choose another, e.g. 'tokens'.`,
  )
}

function notMounted(): ConfigurationError {
  return new ConfigurationError(
    'This request has no session. Mount koa-session before sessionTokens(): ' +
      'app.use(session({ … }, app)); app.use(sessionTokens({ … })).',
  )
}

function noStore(): ConfigurationError {
  return new ConfigurationError(
    'koa-session keeps its sessions in cookies. Give it an external store: app.use(session({ store }, app)).',
  )
}

function contextStore(): ConfigurationError {
  return new ConfigurationError(
    'The option `ContextStore` of koa-session is not supported, since it makes a store anew for every request. ' +
      'Use its option `store`: a store is told the request with every call.',
  )
}

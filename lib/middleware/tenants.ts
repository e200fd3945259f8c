import type { IncomingMessage, ServerResponse } from 'node:http'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { LRUCache } from 'lru-cache'
import { onResponseClosed } from '../concurrency/response-closed.js'
import { SingleFlight } from '../concurrency/single-flight.js'
import { withTimeout } from '../concurrency/with-timeout.js'
import { ConfigurationError } from '../errors/token-error.js'
import { count, fn } from '../options/option-kinds.js'
import { type Checked, checkOptions, type OptionTable } from '../options/option-table.js'
import { ownValue } from '../options/own-properties.js'
import type { MiddlewareContext } from './composition.js'
import type { SessionTokensOptions } from './options.js'

/** The options of `sessionTokens()` for an app of several tenants, each with an authorization server or a client of its own. */
export interface TenantOptions<Request = unknown> {
  /** Names the tenant of a request, for example by its host or path: a string that is not empty. Called for every request. */
  tenant(request: Request): string
  /**
   * Looks up the options of a tenant, within 10 s, when its first request comes. The options are kept. After a failure the next
   * request looks them up again. The default `sessionKey` is `tokens:` and the tenant's name, so that one session may hold the
   * tokens of several tenants.
   */
  options(tenant: string): SessionTokensOptions<Request> | Promise<SessionTokensOptions<Request>>
  /**
   * How many tenants are kept in memory. The least recently used one is evicted first: its requests and refreshes finish, and
   * its options are looked up again at its next request. Default: 100.
   */
  maxTenants?: number
}

const OPTIONS = {
  tenant: fn('(request) => request.headers.host'),
  options: fn('(tenant) => ({ issuer, clientId, clientAuthentication })'),
  maxTenants: count(100, { least: 1 }),
} satisfies OptionTable<TenantOptions>

const USAGE = {
  of: 'sessionTokens({ tenant, options })',
  takes: 'sessionTokens() takes an object: sessionTokens({ tenant, options })',
}

const MAX_SHOWN_LENGTH = 100
/** How long the requests of a tenant wait for its options. */
const LOOKUP_TIMEOUT_MS = 10_000

export function isTenantOptions(options: unknown): options is TenantOptions {
  return (
    typeof options === 'object' &&
    options !== null &&
    Object.keys(OPTIONS).some((name) => Object.hasOwn(options, name))
  )
}

/** Puts the parts of one tenant together. */
type Compose<Request> = (options: SessionTokensOptions<Request>, tenant: string) => MiddlewareContext

/** The parts of an app's tenants, put together when a tenant's first request comes. */
export class Tenants<Request> {
  readonly #options: Checked<TenantOptions<Request>, typeof OPTIONS>
  readonly #compose: Compose<Request>
  readonly #tenants: LRUCache<string, Tenant>
  /** The tenants whose options are being looked up. */
  readonly #pending = new SingleFlight<string, Tenant>()
  /** Evicted tenants that still serve requests, or store tokens. */
  readonly #draining = new Set<Tenant>()

  constructor(options: TenantOptions<Request>, compose: Compose<Request>) {
    this.#options = checkOptions(options, OPTIONS, USAGE)
    this.#compose = compose
    this.#tenants = new LRUCache({
      max: this.#options.maxTenants,
      dispose: (tenant) => void this.#drain(tenant),
    })
  }

  /**
   * Returns the parts of the tenant of a request; a promise of them when its options have to be looked up first. They are kept
   * until the response is closed: koa-session saves the session after this middleware has returned.
   *
   * @throws `ConfigurationError` when the request has no tenant, or the options of the tenant cannot be had
   */
  of(
    request: Request,
    req: IncomingMessage,
    res: ServerResponse,
  ): MiddlewareContext | Promise<MiddlewareContext> {
    const name = this.#nameOf(request)
    const acquire = (tenant: Tenant) => {
      // The client may have gone while the options were looked up.
      onResponseClosed(req, res, tenant.acquire())
      return tenant.context
    }
    const tenant = this.#tenants.get(name)
    return tenant ? acquire(tenant) : this.#pending.do(name, () => this.#create(name)).then(acquire)
  }

  /** Runs work with the parts of a tenant, which are kept until the work has ended. */
  async use<T>(name: string, work: (context: MiddlewareContext) => Promise<T>): Promise<T> {
    const tenant = this.#tenants.get(name) ?? (await this.#pending.do(name, () => this.#create(name)))
    const release = tenant.acquire()
    try {
      return await work(tenant.context)
    } finally {
      release()
    }
  }

  /** Resolves when every refresh of every tenant has ended and its result is stored. */
  async close(): Promise<void> {
    await this.#pending.drain()
    this.#tenants.clear()
    await Promise.all([...this.#draining].map(({ context }) => context.close()))
  }

  #nameOf(request: Request): string {
    let name: unknown
    try {
      name = this.#options.tenant(request)
    } catch (cause) {
      throw new ConfigurationError(
        '`tenant` failed. It must name the tenant of every request that reaches sessionTokens().',
        { cause, causeMessage: cause instanceof TypeError },
      )
    }
    if (typeof name === 'string' && name !== '') return name
    if (name instanceof Promise) name.catch(() => {})
    throw new ConfigurationError(
      '`tenant` names no tenant for this request: it must return a string that is not empty. ' +
        'Mount sessionTokens() only on the paths of tenants, or name a tenant for all other requests.',
    )
  }

  async #create(name: string): Promise<Tenant> {
    const shown = `the tenant ${JSON.stringify(name.slice(0, MAX_SHOWN_LENGTH))}`
    const options = await this.#lookUp(name, shown)
    try {
      const tenant = new Tenant(this.#compose(withSessionKey(options, `tokens:${name}`), name))
      this.#tenants.set(name, tenant)
      return tenant
    } catch (error) {
      if (!(error instanceof ConfigurationError)) throw error
      throw new ConfigurationError(`In the options of ${shown}: ${error.message}`)
    }
  }

  async #lookUp(name: string, shown: string): Promise<SessionTokensOptions<Request>> {
    let options: SessionTokensOptions<Request>
    try {
      options = await withTimeout(LOOKUP_TIMEOUT_MS, this.#optionsOf(name), lookupTimedOut)
    } catch (cause) {
      throw new ConfigurationError(
        `The options of ${shown} could not be looked up. Check options(); the next request tries again.`,
        { cause, causeMessage: cause instanceof TypeError },
      )
    }
    if (typeof options === 'object' && options !== null) return options
    throw new ConfigurationError(
      `There are no options of ${shown}. Return them from options(), or respond to requests of unknown tenants before sessionTokens().`,
    )
  }

  async #optionsOf(name: string): Promise<SessionTokensOptions<Request>> {
    return this.#options.options(name)
  }

  async #drain(tenant: Tenant): Promise<void> {
    this.#draining.add(tenant)
    // Requests that waited for its options are about to acquire it.
    await nextTurn()
    await tenant.idle
    await tenant.context.close()
    this.#draining.delete(tenant)
  }
}

/** The parts of one tenant, and the number of requests that it serves. */
class Tenant {
  readonly context: MiddlewareContext
  #requests = 0
  readonly #waiting: (() => void)[] = []

  constructor(context: MiddlewareContext) {
    this.context = context
  }

  /** Counts a request. Returns a function that releases the tenant when the request is over. */
  acquire(): () => void {
    this.#requests++
    let released = false
    return () => {
      if (released) return
      released = true
      this.#requests--
      if (this.#requests === 0) for (const resolve of this.#waiting.splice(0)) resolve()
    }
  }

  /** Resolves when the tenant serves no request. */
  get idle(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#requests === 0) resolve()
      else this.#waiting.push(resolve)
    })
  }
}

/** Adds a session key to options that have none. */
function withSessionKey<Request>(
  options: SessionTokensOptions<Request>,
  sessionKey: string,
): SessionTokensOptions<Request> {
  if (ownValue(options, 'sessionKey') !== undefined) return options
  // The copy keeps the prototype, so that the check of the options finds inherited ones.
  return Object.assign(Object.create(Object.getPrototypeOf(options)), options, { sessionKey })
}

const lookupTimedOut = () => new TypeError(`options() took more than ${LOOKUP_TIMEOUT_MS} ms.`)

import { setImmediate as nextTurn } from 'node:timers/promises'
import { LRUCache } from 'lru-cache'
import { within } from './deadline.js'
import { ConfigurationError } from './errors.js'
import { closeMount, type Mount } from './mount.js'
import type { SessionTokensOptions } from './options.js'
import { ownOptions } from './own-options.js'
import { ownValue } from './own-properties.js'

/** What `sessionTokens()` takes for an app of several tenants, each with an authorization server or a client of its own. */
export interface TenantOptions<Request = unknown> {
  /** Names the tenant of a request, from its host or path say: a text that is not empty. It is asked on every request. */
  tenant(request: Request): string
  /**
   * The options of a tenant, looked up when its first request comes, within 10 s, and kept. A failure is not kept. Its `sessionKey` is
   * `tokens:` and the tenant's name unless it says otherwise, so that one session may hold the tokens of several tenants.
   */
  options(tenant: string): SessionTokensOptions<Request> | Promise<SessionTokensOptions<Request>>
  /**
   * How many tenants are kept at hand, those that had no request for the longest time being given up first. What goes on
   * for them ends well, and their options are looked up anew at the next request. Default: 100.
   */
  maxTenants?: number
}

const OPTIONS = ['tenant', 'options', 'maxTenants'] as const satisfies readonly (keyof TenantOptions)[]
const MAX_SHOWN_LENGTH = 100
/** For how long the requests of a tenant wait for its options. */
const PATIENCE_MS = 10_000

export function isTenantOptions(options: unknown): options is TenantOptions {
  return (
    typeof options === 'object' && options !== null && OPTIONS.some((name) => Object.hasOwn(options, name))
  )
}

/**
 * The mounts of an app's tenants, each made when its first request comes. For every request a framework calls `of()`,
 * `enter()`s the tenant, attaches tokens over its `mounted`, and leaves when the answer is out.
 */
export class Tenants<Request> {
  readonly #options: TenantOptions<Request>
  readonly #mountOf: (options: SessionTokensOptions<Request>) => Mount
  readonly #tenants: LRUCache<string, Tenant>
  readonly #coming = new Map<string, Promise<Tenant>>()
  /** Those that were given up and are still at work. */
  readonly #going = new Set<Tenant>()

  constructor(options: TenantOptions<Request>, mountOf: (options: SessionTokensOptions<Request>) => Mount) {
    this.#options = checkedTenantOptions(options)
    this.#mountOf = mountOf
    this.#tenants = new LRUCache({
      max: this.#options.maxTenants ?? 100,
      dispose: (tenant) => void this.#giveUp(tenant),
    })
  }

  /**
   * The tenant of a request; a promise of it when its options have to be looked up first.
   *
   * @throws `ConfigurationError` when the request has none, or its options are not to be had
   */
  of(request: Request): Tenant | Promise<Tenant> {
    const name = this.#nameOf(request)
    return this.#tenants.get(name) ?? this.#coming.get(name) ?? this.#welcome(name)
  }

  /** Resolves when every refresh of every tenant has ended and its result is stored. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#coming.values())
    this.#tenants.clear()
    await Promise.all([...this.#going].map((tenant) => tenant.close()))
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
      '`tenant` names no tenant for this request: it must return a text that is not empty. ' +
        'Mount sessionTokens() on the paths that belong to tenants alone, or name one for all other requests.',
    )
  }

  #welcome(name: string): Promise<Tenant> {
    const coming = this.#make(name).finally(() => this.#coming.delete(name))
    this.#coming.set(name, coming)
    return coming
  }

  async #make(name: string): Promise<Tenant> {
    const shown = `the tenant ${JSON.stringify(name.slice(0, MAX_SHOWN_LENGTH))}`
    const options = await this.#lookUp(name, shown)
    try {
      const tenant = new Tenant(this.#mountOf(withSessionKey(options, `tokens:${name}`)))
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
      options = await within(PATIENCE_MS, this.#optionsOf(name), tooSlow)
    } catch (cause) {
      throw new ConfigurationError(
        `The options of ${shown} are not to be had. Check what options() does; the next request tries again.`,
        { cause, causeMessage: cause instanceof TypeError },
      )
    }
    if (typeof options === 'object' && options !== null) return options
    throw new ConfigurationError(
      `There are no options of ${shown}. Have options() return them, or answer requests of tenants that do not exist before sessionTokens().`,
    )
  }

  async #optionsOf(name: string): Promise<SessionTokensOptions<Request>> {
    return this.#options.options(name)
  }

  async #giveUp(tenant: Tenant): Promise<void> {
    this.#going.add(tenant)
    // Those who waited for its options are about to enter.
    await nextTurn()
    await tenant.left
    await tenant.close()
    this.#going.delete(tenant)
  }
}

/** One tenant's mount, and how many requests are at work with it. */
export class Tenant {
  readonly mounted: Mount
  #requests = 0
  readonly #waiting: (() => void)[] = []

  constructor(mounted: Mount) {
    this.mounted = mounted
  }

  /** A request begins. Call what is returned when it is over: till then its session is looked after. */
  enter(): () => void {
    this.#requests++
    let over = false
    return () => {
      if (over) return
      over = true
      this.#requests--
      if (this.#requests === 0) for (const resolve of this.#waiting.splice(0)) resolve()
    }
  }

  /** Resolves when no request is at work with it. */
  get left(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#requests === 0) resolve()
      else this.#waiting.push(resolve)
    })
  }

  close(): Promise<void> {
    return closeMount(this.mounted)
  }
}

/** The options with a session key; where they have one it stays. */
function withSessionKey<Request>(
  options: SessionTokensOptions<Request>,
  sessionKey: string,
): SessionTokensOptions<Request> {
  if (ownValue(options, 'sessionKey') !== undefined) return options
  // With what they inherit, so that the check of the options sees it.
  return Object.assign(Object.create(Object.getPrototypeOf(options)), options, { sessionKey })
}

function checkedTenantOptions<Request>(given: TenantOptions<Request>): TenantOptions<Request> {
  const options = ownOptions(given, OPTIONS, 'sessionTokens({ tenant, options })')
  if (typeof options.tenant !== 'function') {
    throw new ConfigurationError(
      '`tenant` must be a function that names the tenant of a request: tenant: (request) => request.headers.host.',
    )
  }
  if (typeof options.options !== 'function') {
    throw new ConfigurationError(
      '`options` must be a function of the tenant: options: (tenant) => ({ issuer, clientId, clientAuthentication }).',
    )
  }
  const { maxTenants } = options
  if (maxTenants !== undefined && !(Number.isSafeInteger(maxTenants) && maxTenants >= 1)) {
    throw new ConfigurationError('`maxTenants` must be a whole number from 1, e.g. maxTenants: 100.')
  }
  return options
}

const tooSlow = () => new TypeError(`options() took more than ${PATIENCE_MS} ms.`)

import { LRUCache } from 'lru-cache'
import type { BackgroundTasks } from '../concurrency/background-tasks.js'
import { SingleFlight } from '../concurrency/single-flight.js'
import { withTimeout } from '../concurrency/with-timeout.js'
import { ConfigurationError, TokenError } from '../errors/token-error.js'
import { Grant } from '../grants/grant.js'
import type { RefreshResponse } from '../oauth/authorization-server.js'
import { ownProperties } from '../options/own-properties.js'
import { type AccessToken, isDueAhead, needKey, unexpiredToken, usableToken } from '../tokens/access-token.js'
import type { DpopKey } from '../tokens/dpop-key.js'
import { NO_NEED, type TokenNeed, tokenSelectorOf } from '../tokens/token-need.js'
import { mergeTokens } from '../tokens/token-response.js'
import type { TokenSet } from '../tokens/token-set.js'
import type { ManagerContext } from './manager-context.js'
import type { BreakerChange } from './server-health.js'

/** The largest number of needs whose tokens are kept. The least recently used one is evicted first. */
const MAX_NEEDS = 200

/** The tokens of one need of the client. They are kept in memory, like those of a grant. */
interface ClientNeed {
  readonly need: TokenNeed
  /** Names the token, see `needKey()`. */
  readonly key: string
  /** Names the need among the callers of the authorization server. */
  readonly caller: string
  readonly grant: Grant
}

/**
 * The client's own access tokens (RFC 6749 §4.4), for calls that an app makes in its own name. The tokens are in the memory of
 * this process: no session and no grant store has them. Each need has a single flight, a refresh ahead of expiry and a backoff.
 */
export class ClientTokens {
  readonly #context: ManagerContext
  readonly #background: BackgroundTasks
  readonly #flights = new SingleFlight<string, AccessToken>()
  readonly #needs = new LRUCache<string, ClientNeed>({ max: MAX_NEEDS })

  #dpopKey: Promise<DpopKey> | undefined

  constructor(context: ManagerContext, background: BackgroundTasks) {
    this.#context = context
    this.#background = background
  }

  /**
   * Resolves with the key that the tokens are bound to, with the option `dpop`. Like the tokens, the key is in the memory of this
   * process. All tokens of the client have the same key.
   */
  async dpopKey(): Promise<DpopKey | undefined> {
    this.#dpopKey ??= this.#context.dpop?.newKey()
    return this.#dpopKey
  }

  /** Resolves with an access token of the client that serves the need. No I/O if the token at hand is valid. */
  async get(given: TokenNeed): Promise<AccessToken> {
    const { ahead, clock, leeway } = this.#context
    const of = this.#of(given)
    const { grant } = of
    const held = heldBy(grant)
    const now = grant.now()
    const usable = usableToken(held, given, now, leeway)
    if (usable) {
      const isDue = isDueAhead(usable, now, ahead, leeway, grant.jitter)
      if (isDue && !this.#isPaused(of)) this.#requested(of).catch(() => {})
      return usable
    }
    const { rejected, ...need } = given
    const current = rejected === undefined ? undefined : usableToken(held, ownProperties(need), now, leeway)
    const isRejected = current !== undefined && current.token === rejected
    // The API has rejected several new tokens in a row, so it would reject the next one as well.
    if (isRejected && !this.#flights.has(of.key) && !grant.backoff.mayReplace(of.key, clock.monotonic()))
      return current
    return this.#requestedOrUnexpired(of, given, isRejected)
  }

  /** Returns every token that this process holds, which no error may show. */
  secrets(): string[] {
    return [...this.#needs.values()].flatMap(({ grant }) =>
      heldBy(grant).accessTokens.map(({ token }) => token),
    )
  }

  #of(given: TokenNeed): ClientNeed {
    if (given.exchange !== undefined) throw exchangeOfClientError()
    const key = needKey(given)
    const known = this.#needs.get(key)
    if (known) return known
    const { audience, clock } = this.#context
    const caller = `client ${audience} ${key}`
    const made = { need: tokenSelectorOf(given) ?? NO_NEED, key, caller, grant: new Grant(caller, clock) }
    this.#needs.set(key, made)
    return made
  }

  async #requestedOrUnexpired(of: ClientNeed, given: TokenNeed, isRejected: boolean): Promise<AccessToken> {
    const { patienceMs, timeoutMs } = this.#context
    const unexpired = () => unexpiredToken(heldBy(of.grant), given, of.grant.now())
    const isUrgent = given.minValidityMs !== undefined || unexpired() === undefined
    try {
      return await withTimeout(
        isUrgent ? timeoutMs : patienceMs,
        this.#requested(of, isRejected),
        tooSlowError,
      )
    } catch (error) {
      const token = unexpired()
      if (token) return token
      throw error
    }
  }

  /**
   * Joins the request for a token if one is in flight. Otherwise starts a request.
   *
   * @param isRejected whether an API has rejected the token that this process holds, although it has not expired
   */
  #requested(of: ClientNeed, isRejected = false): Promise<AccessToken> {
    return this.#flights.do(of.key, () => {
      const requested = this.#request(of, isRejected)
      this.#background.run(of.caller, requested)
      return requested
    })
  }

  #isPaused(of: ClientNeed): boolean {
    try {
      this.#throwDuringPause(of)
      return false
    } catch {
      return true
    }
  }

  #throwDuringPause({ caller, grant, key }: ClientNeed): void {
    const { clock, health } = this.#context
    grant.backoff.throwDuringPause(key, clock.monotonic(), health.lastSuccessAt)
    health.throwWhileFailing(caller)
  }

  async #request(of: ClientNeed, isRejected: boolean): Promise<AccessToken> {
    const { clock, defaultLifetimeMs, emit, health } = this.#context
    const { caller, grant, key, need } = of
    this.#throwDuringPause(of)
    const startedAt = clock.monotonic()
    try {
      health.start(caller)
      const response = await this.#send(of)
      grant.learn(mergeTokens(heldBy(grant), response, need, clock.now(), defaultLifetimeMs), false)
      grant.backoff.succeeded(key)
      if (isRejected) grant.backoff.replaced(key, clock.monotonic())
      return heldBy(grant).accessTokens[0]!
    } catch (failure) {
      const error = clientTokenError(failure as TokenError)
      grant.backoff.failed(key, error, clock.monotonic(), health.lastSuccessAt)
      emit({ type: 'client_token_failed', error, durationMs: clock.monotonic() - startedAt })
      throw error
    } finally {
      health.ended(caller)
    }
  }

  async #send({ caller, need }: ClientNeed): Promise<RefreshResponse> {
    const { emit, health, refreshTimeoutMs, server, timeoutMs } = this.#context
    const onChange = (change: BreakerChange) => emit({ ...change, of: 'authorization_server' })
    const watching = { silentAfterMs: timeoutMs, abortAfterMs: refreshTimeoutMs, onChange }
    const key = await this.dpopKey()
    return health.watch(caller, watching, (signal) => server.clientCredentials(need, signal, key))
  }
}

/** Returns the token set of one need. It holds one access token at most. */
function heldBy({ id, tokens }: Grant): TokenSet {
  return tokens ?? { grantId: id, revision: 0, accessTokens: [] }
}

/**
 * Returns the error for a failed request for the client's own token. A user cannot help here, so the error never has a code that
 * sends the user to the login.
 */
function clientTokenError(failure: TokenError): TokenError {
  const { code, error, errorDescription } = failure
  const isOfUser = ['ERR_REAUTHENTICATION_REQUIRED', 'ERR_STEP_UP_REQUIRED', 'ERR_INSUFFICIENT_SCOPE']
  if (!isOfUser.includes(code)) return failure
  return new TokenError(
    'ERR_TOKEN_ENDPOINT',
    "The authorization server refused the client's own token (grant type client_credentials). Check what the client is registered " +
      'for. The cause has the response.',
    { cause: failure, error, errorDescription },
  )
}

function exchangeOfClientError(): ConfigurationError {
  return new ConfigurationError(
    "An exchange is made with the token of a user, so the client's own token cannot be for `exchange`. Name a scope, a resource or an " +
      'audience, or use req.tokens.getAccessToken({ exchange }).',
  )
}

function tooSlowError(): TokenError {
  return new TokenError(
    'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    'There was no token of the client within timeoutMs. The request goes on, and the next caller finds its result. If this happens ' +
      'often, check the response times of the authorization server.',
  )
}

import type { Clock } from '../concurrency/clock.js'
import { TokenError } from '../errors/token-error.js'
import { type KeyRing, noKeysError } from '../sessions/codec/key-ring.js'
import type { EmitEvent } from '../tokens/event-emitter.js'
import type { OutboundTokens } from '../tokens/token-source.js'

/** The `encryptionKeys` of an app that gave a function. */
export interface RotatingKeys {
  /** Whether the function has returned no keys yet. */
  readonly isEmpty: boolean
  /**
   * Brings the keys up to date. Returns a promise if the caller has to wait.
   *
   * @throws `ERR_SESSION_STORE`, as a rejection, while there are no keys
   */
  prepare(): Promise<void> | undefined
}

/** Returns the keys if the option is a function, and calls the function once, so that the first request finds the keys. */
export function rotatingKeys(
  ring: KeyRing | undefined,
  clock: Clock,
  emit: EmitEvent,
): RotatingKeys | undefined {
  if (!ring?.isRotating) return undefined
  const onFailure = (cause: unknown, hasLast: boolean) => {
    const error = hasLast ? lastKeysError(cause) : noKeysError(cause)
    emit({ type: 'secret_failed', of: 'encryption_keys', hasLast, error })
    return error
  }
  const prepare = () => ring.prepare(clock.monotonic(), onFailure)
  prepare()?.catch(() => {})
  return {
    get isEmpty() {
      return ring.isEmpty
    },
    prepare,
  }
}

function lastKeysError(cause: unknown): TokenError {
  return new TokenError(
    'ERR_SESSION_STORE',
    'The function `encryptionKeys` has failed, or has returned no valid keys. The last valid keys are still used. Check the function.',
    // A vault may put anything into its message.
    { cause, causeMessage: cause instanceof TypeError || cause instanceof TokenError },
  )
}

/**
 * Makes the property of a request throw while there are no keys. Returns tokens with which the calls of `sessionAxios()` and
 * `sessionFetch()` fail.
 */
export function refusedTokens(carrier: object, property: string, error: unknown): OutboundTokens {
  const get = () => {
    throw error
  }
  Object.defineProperty(carrier, property, { get, configurable: true })
  return { tokenToSend: () => Promise.reject(error), secrets: () => [] }
}

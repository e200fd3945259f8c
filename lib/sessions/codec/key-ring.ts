import { type OnRotationFailure, RotatingValue } from '../../concurrency/rotating-value.js'
import { WAIT_FOR_KEYS_AFTER_MS } from '../../concurrency/time-constants.js'
import { TokenError } from '../../errors/token-error.js'
import { bytesOf, checkEncryptionKeys, type EncryptionKey, type Seal, seal } from './sealing.js'

/** The keys that seal, the newest first, or a function that returns them, so that a vault can change them while the process runs. */
export type EncryptionKeysOption =
  | readonly (EncryptionKey | undefined)[]
  | (() => readonly (EncryptionKey | undefined)[] | Promise<readonly (EncryptionKey | undefined)[]>)

type Keys = readonly EncryptionKey[]

/** The encryption keys: a fixed list, or the last list that the app's function has returned. */
export class KeyRing {
  readonly #fixed: Keys | undefined
  readonly #rotating: RotatingValue<Keys> | undefined
  /** How many times the function has returned a list that lacks a key of the list before it. */
  #removals = 0

  /**
   * @throws `ConfigurationError` for a list with a key that cannot be used. If `given` is a function, its keys are checked each
   * time that it returns them
   */
  constructor(given: unknown) {
    if (typeof given === 'function') {
      const check = (keys: unknown) => this.#checked(keys)
      this.#rotating = new RotatingValue(given as () => unknown, check, WAIT_FOR_KEYS_AFTER_MS)
    } else {
      this.#fixed = checkedKeys(given)
    }
  }

  get isRotating(): boolean {
    return this.#rotating !== undefined
  }

  /** Whether a function was given, and has returned no keys yet. */
  get isEmpty(): boolean {
    return this.#rotating !== undefined && this.#rotating.value === undefined
  }

  /**
   * Calls the app's function if it was last called some time ago. Returns a promise if the caller has to wait for the keys: there are
   * none yet, or the last ones are too old, see {@link RotatingValue}. Does nothing for a fixed list.
   */
  prepare(now: number, onFailure: OnRotationFailure): Promise<void> | undefined {
    return this.#rotating?.prepare(now, onFailure)
  }

  /**
   * Returns the seal for an audience. The seal always uses the current keys. While there are no keys, it opens nothing, and
   * sealing throws `ERR_SESSION_STORE`.
   */
  sealFor(audience: string): Seal {
    const rotating = this.#rotating
    if (!rotating) return seal(this.#fixed!, audience)
    let last: { readonly keys: Keys; readonly seal: Seal } | undefined
    const current = () => {
      const keys = rotating.value
      if (keys !== last?.keys) last = keys && { keys, seal: seal(keys, audience) }
      return last?.seal
    }
    const removals = () => this.#removals
    return {
      seal: (text) => (current() ?? noKeys()).seal(text),
      open: (text) => current()?.open(text),
      names: (text) => current()?.names(text) ?? false,
      get removals() {
        return removals()
      },
    }
  }

  /** Checks new keys. Returns the earlier list if they are the same. */
  #checked(given: unknown): Keys {
    const keys = checkedKeys(given)
    const earlier = this.#rotating!.value ?? []
    const isSame = keys.length === earlier.length && keys.every((key, at) => areEqual(key, earlier[at]!))
    if (isSame) return earlier
    if (earlier.some((key) => !keys.some((other) => areEqual(key, other)))) this.#removals++
    return keys
  }
}

function checkedKeys(keys: unknown): Keys {
  checkEncryptionKeys(keys)
  // A copy: the app may change its list.
  return [...(keys as Keys)]
}

function areEqual(one: EncryptionKey, other: EncryptionKey): boolean {
  return Buffer.from(bytesOf(one)).equals(bytesOf(other))
}

/** Returns the error for a use of tokens while the function `encryptionKeys` has not returned any keys yet. */
export function noKeysError(cause?: unknown): TokenError {
  return new TokenError(
    'ERR_SESSION_STORE',
    'The function `encryptionKeys` has returned no keys yet, so the tokens in sessions can be neither read nor stored. The users stay ' +
      'logged in. Check the function.',
    // A vault may put anything into its message.
    { cause, causeMessage: cause instanceof TypeError || cause instanceof TokenError },
  )
}

function noKeys(): never {
  throw noKeysError()
}

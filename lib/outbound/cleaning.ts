import { types } from 'node:util'
import { redact } from '../errors/redact.js'
import { sanitizedError, TokenError } from '../errors/token-error.js'

/** Returns the tokens that no error may show. Called only when there is an error. */
export type Secrets = () => readonly string[]

/** Replaces a property of an error; `clean` cleans the parts that the replacement keeps. */
type Replacement = (value: object, clean: (value: unknown) => unknown) => unknown

/** Properties of errors that are replaced, by their names. */
export type Replacements = Readonly<Record<string, Replacement>>

/** How many values of an error are read. Further values are left out. */
const MAX_VALUES = 10_000

/**
 * Takes the parts out of an error that show a secret or may lead to one. Texts without the secrets, numbers, plain data and the
 * causes of the error stay. Objects of other classes are removed: an agent, a socket or a dispatcher leads to requests in flight,
 * and to the tokens of other users in them.
 *
 * The error is changed in place. An error that cannot be changed is replaced by its name, code and message.
 */
export function cleanError(
  error: unknown,
  secrets: readonly string[],
  replacements: Replacements = {},
): unknown {
  return new Cleaner(secrets, replacements).thrown(error)
}

class Cleaner {
  readonly #secrets: readonly string[]
  readonly #shortest: number
  readonly #replacements: Replacements
  /** The cleaned objects by the objects that they replace. */
  readonly #cleaned = new Map<object, unknown>()

  constructor(secrets: readonly string[], replacements: Replacements) {
    this.#secrets = secrets
    this.#shortest = Math.min(...secrets.map(({ length }) => length))
    this.#replacements = replacements
  }

  thrown(error: unknown): unknown {
    return typeof error === 'object' && error !== null ? this.#error(error) : this.#value(error)
  }

  #error(error: object): unknown {
    if (error instanceof TokenError) return error
    this.#cleaned.set(error, error)
    try {
      for (const name of Reflect.ownKeys(error)) this.#property(error, name, isOfParser(error))
      for (const [name, read] of readsOf(error)) this.#ofClass(error, name, read)
      return error
    } catch {
      const bare = sanitizedError(error, this.#secrets, true)
      this.#cleaned.set(error, bare)
      return bare
    }
  }

  #property(error: object, name: string | symbol, isOfParser: boolean): void {
    const value = Reflect.get(error, name)
    const cleaned =
      isOfParser && (name === 'rawPacket' || name === 'data') ? undefined : this.#part(name, value)
    if (Object.is(cleaned, value)) return
    const { enumerable = true } = Reflect.getOwnPropertyDescriptor(error, name) ?? {}
    const property = { value: cleaned, enumerable, writable: true, configurable: true }
    const isDone =
      cleaned === undefined
        ? Reflect.deleteProperty(error, name)
        : Reflect.defineProperty(error, name, property)
    if (!isDone) throw new TypeError(`The error does not let go of ${String(name)}.`)
  }

  /**
   * Puts a property with the cleaned result of a getter, or of `toJSON()`, on the error, so that the method of its class is not
   * called.
   */
  #ofClass(error: object, name: string | symbol, read: () => unknown): void {
    let value: unknown
    try {
      value = read()
    } catch {
      // It shows nothing.
      return
    }
    const cleaned = this.#part(name, value)
    if (Object.is(cleaned, value)) return
    const shown = name === 'toJSON' ? () => cleaned : cleaned
    Object.defineProperty(error, name, {
      value: shown,
      enumerable: false,
      writable: true,
      configurable: true,
    })
  }

  #part(name: string | symbol, value: unknown): unknown {
    const isReplaced = typeof name === 'string' && Object.hasOwn(this.#replacements, name)
    return isReplaced && typeof value === 'object' && value !== null
      ? this.#replacements[name]!(value, (part) => this.#value(part))
      : this.#value(value)
  }

  #value(value: unknown): unknown {
    if (typeof value === 'string') return this.#text(value)
    if (typeof value === 'function') return isBare(value) ? value : undefined
    if (typeof value !== 'object' || value === null) return value
    if (this.#cleaned.has(value)) return this.#cleaned.get(value)
    if (this.#cleaned.size >= MAX_VALUES) return undefined
    return isError(value) ? this.#error(value) : this.#data(value)
  }

  /** Redacts a text. A text that is shorter than every secret holds no secret: escapes only make a secret longer. */
  #text(text: string): string {
    return text.length < this.#shortest ? text : redact(text, this.#secrets)
  }

  #data(value: object): unknown {
    if (Array.isArray(value)) return this.#copied(value, [])
    if (isPlain(value)) return this.#copied(value, Object.create(Object.getPrototypeOf(value)))
    if (ArrayBuffer.isView(value)) return this.#bytes(value, value)
    if (types.isAnyArrayBuffer(value)) return this.#bytes(value, new Uint8Array(value))
    if (types.isDate(value) || value instanceof Blob) return value
    if (value instanceof URL || types.isRegExp(value)) return this.#text(String(value))
    return undefined
  }

  #copied(value: object, copy: object): object {
    this.#cleaned.set(value, copy)
    for (const name of Reflect.ownKeys(value)) {
      if (Array.isArray(value) && name === 'length') continue
      const part = this.#value(Reflect.get(value, name))
      const shown = typeof name === 'string' ? this.#text(name) : name
      Object.defineProperty(copy, shown, {
        value: part,
        enumerable: true,
        writable: true,
        configurable: true,
      })
    }
    return copy
  }

  #bytes(value: object, { buffer, byteOffset, byteLength }: ArrayBufferView): object {
    const text = Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength).toString('latin1')
    const shown = this.#text(text)
    return shown === text ? value : Buffer.from(shown, 'latin1')
  }
}

/**
 * Whether an error is of the parser of HTTP: the input that it could not read may be anything, such as the request itself. On
 * Node 24 the error has no code.
 */
function isOfParser(error: object): boolean {
  const { code, name } = error as { code?: unknown; name?: unknown }
  return String(code).startsWith('HPE_') || name === 'HTTPParserError'
}

/**
 * Returns the getters of an error's classes, and its `toJSON()`: they read private fields. That of axios reads cleaned
 * properties.
 */
function readsOf(error: object): Map<string | symbol, () => unknown> {
  const reads = new Map<string | symbol, () => unknown>()
  let holder = Object.getPrototypeOf(error)
  while (holder !== null && holder !== Error.prototype && Object.getPrototypeOf(holder) !== null) {
    for (const name of Reflect.ownKeys(holder)) {
      const { get, value } = Reflect.getOwnPropertyDescriptor(holder, name)!
      if (Object.hasOwn(error, name) || reads.has(name)) continue
      if (get) reads.set(name, get.bind(error))
      else if (name === 'toJSON' && typeof value === 'function' && !isOfAxios(error)) {
        reads.set(name, value.bind(error))
      }
    }
    holder = Object.getPrototypeOf(holder)
  }
  return reads
}

function isOfAxios(error: object): boolean {
  return (error as { isAxiosError?: unknown }).isAxiosError === true
}

function isError(value: object): boolean {
  return value instanceof Error || types.isNativeError(value)
}

function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value)
  return prototype === null || Object.getPrototypeOf(prototype) === null
}

/** Whether a function has no properties but those that every function has. */
function isBare(value: object): boolean {
  const usual: readonly unknown[] = ['length', 'name', 'prototype', 'arguments', 'caller']
  return Reflect.ownKeys(value).every((name) => usual.includes(name))
}

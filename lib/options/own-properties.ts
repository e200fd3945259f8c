/*
 * An object inherits from Object.prototype, and a careless merge of JSON elsewhere in a process puts properties there.
 * Such a property is no option, no field of a response and no part of a session, so these functions read copies.
 */

/**
 * Copies an object's own enumerable properties to one that inherits nothing.
 *
 * A copy of the copy by `{ ...copy }` inherits again.
 */
export function ownProperties<T extends object>(value: T): T {
  return { __proto__: null, ...value } as T
}

/** Returns the value under a name that is the object's own; `undefined` for one that it inherits. */
export function ownValue(object: object | null | undefined, name: string): unknown {
  return object && Object.hasOwn(object, name) ? (object as Record<string, unknown>)[name] : undefined
}

/** Returns the value under a name that is the object's own, or its class's. Properties that all objects inherit do not count. */
export function fieldValue(object: object, name: string): unknown {
  return hasField(object, name) ? (object as Record<string, unknown>)[name] : undefined
}

/** Whether a name is the object's own, or its class's. */
export function hasField(object: object, name: string): boolean {
  let holder = object
  while (!Object.hasOwn(holder, name)) {
    holder = Object.getPrototypeOf(holder)
    // The last one is `Object.prototype`, of this realm or of another one.
    if (holder === null || Object.getPrototypeOf(holder) === null) return false
  }
  return true
}

/** A parsed JSON object. Its values are unchecked. */
export type JsonObject = Readonly<Record<string, unknown>>

/** Whether a value is an object that is neither `null` nor an array. */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Parses a text that should hold a JSON object. Returns `undefined` for any other text. */
export function parseJsonObject(text: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return isJsonObject(value) ? ownProperties(value) : undefined
  } catch {
    // The parser's message quotes the text, and the text may hold tokens.
    return undefined
  }
}

import { ConfigurationError } from '../errors/token-error.js'

/**
 * Throws a `ConfigurationError` unless a value is `undefined`, or a plain object whose values are strings, such as headers.
 *
 * @param what Names the object in messages.
 * @param example Shows what would be right.
 */
export function assertStringRecord(value: unknown, what: string, example: string): void {
  if (value === undefined) return
  // A Headers, a Map or a URLSearchParams has no entries of its own.
  if (typeof value !== 'object' || value === null || Symbol.iterator in value) {
    throw new ConfigurationError(`${what} must be a plain object of strings, e.g. ${example}.`)
  }
  for (const [name, text] of Object.entries(value)) {
    if (typeof text === 'string') continue
    const is =
      text === undefined || text === null ? `${text}. Is the environment variable set?` : `a ${typeof text}.`
    throw new ConfigurationError(
      `${what} must have strings as values, but the value of ${name} is ${is} Leave out a name that is not to be sent.`,
    )
  }
}

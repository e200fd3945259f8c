import { ConfigurationError } from '../errors/token-error.js'
import type { Option } from './option-table.js'

/*
 * The kinds of options. Each has a default, which its message shows as an example; `optional()` takes the default away.
 */

/** The longest time of most durations. Sums of such times stay below the limit of Node's timers, 24 days. */
export const DAY_MS = 24 * 60 * 60 * 1000

/** Takes an option's default away: when it is left out it is `undefined`. */
export function optional(option: Option): Option {
  return (value, name, all) => (value === undefined ? undefined : option(value, name, all))
}

/** Takes any value: the option is checked where it is used. */
export const unchecked: Option = (value) => value

/** Takes every value that a function accepts. The function throws for other values. */
export function checkedBy(check: (value: unknown) => void): Option {
  return (value) => {
    check(value)
    return value
  }
}

/** Checks for one of several words. The first is the default. */
export function oneOf<const Word extends string>(words: readonly [Word, ...Word[]]): Option<Word> {
  return (value = words[0], name) =>
    words.includes(value as Word) ? (value as Word) : wrong(name, `${listOf(words)}, or left out`)
}

function listOf(words: readonly string[]): string {
  const quoted = words.map((word) => `'${word}'`)
  const last = quoted.pop()
  return quoted.length === 0 ? `${last}` : `${quoted.join(', ')} or ${last}`
}

/** Checks for a string, which may be empty and has no default. */
export const anyString: Option = (value, name) =>
  typeof value === 'string' ? value : wrong(name, 'a string, or left out')

/** Checks for a string that is not blank. */
export function text(fallback: string): Option<string> {
  return (value = fallback, name) =>
    typeof value === 'string' && value.trim() !== ''
      ? value
      : wrong(name, `a string that is not empty, e.g. ${name}: '${fallback}'`)
}

/** Checks for the name of a property, other than those that all objects inherit. */
export function propertyName(fallback: string): Option<string> {
  return (value, name) => {
    if (value === undefined) return fallback
    if (typeof value === 'string' && value !== '' && !(value in Object.prototype)) return value
    return wrong(name, `a name, e.g. ${name}: '${fallback}'`)
  }
}

/** Checks for `true` or `false`. */
export function flag(fallback = false): Option<boolean> {
  return (value = fallback, name) =>
    typeof value === 'boolean' ? value : wrong(name, 'true or false, or left out')
}

/** Checks for a function, which has no default. */
export function fn(example: string): Option {
  return (value, name) =>
    typeof value === 'function' ? value : wrong(name, `a function, e.g. ${name}: ${example}`)
}

/** Checks for an instance of a class, which has no default. */
export function instanceOf(type: new (...args: never[]) => unknown, must: string): Option {
  return (value, name) => (value instanceof type ? value : wrong(name, must))
}

interface Range {
  readonly least?: number
  readonly most?: number
}

/** Checks for a whole number. `of` names the unit. */
export function count(
  fallback: number,
  { least = 0, most = Infinity, of }: Range & { readonly of?: string } = {},
): Option<number> {
  return (value = fallback, name) => {
    if (Number.isSafeInteger(value) && isWithin(value, least, most)) return value as number
    const kind = `a whole number${of ? ` of ${of}` : ''}`
    return wrong(name, `${kind}${rangeOf(least, most)}, e.g. ${name}: ${fallback}`)
  }
}

/** Checks for a number of milliseconds, between 1 and a day unless said otherwise. */
export function duration(fallback: number, { least = 1, most = DAY_MS }: Range = {}): Option<number> {
  return (value = fallback, name) => {
    if (Number.isFinite(value) && isWithin(value, least, most)) return value as number
    const longest = most === DAY_MS ? ' (24 hours)' : ` (${most / DAY_MS} days)`
    const range = `${rangeOf(least, most)}${most < Infinity ? longest : ''}`
    return wrong(name, `a number of milliseconds${range}, e.g. ${name}: ${fallback}`)
  }
}

function rangeOf(least: number, most: number): string {
  return `${least > -Infinity ? ` from ${least}` : ''}${most < Infinity ? ` to ${most}` : ''}`
}

function isWithin(value: unknown, least: number, most: number): boolean {
  return (value as number) >= least && (value as number) <= most
}

function wrong(name: string, must: string): never {
  throw new ConfigurationError(`\`${name}\` must be ${must}.`)
}

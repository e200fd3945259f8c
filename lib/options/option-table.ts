import { ConfigurationError } from '../errors/token-error.js'
import { ownProperties } from './own-properties.js'
import { rejectUncalledFactory } from './uncalled-factory.js'
import { rejectUnknownOptions } from './unknown-options.js'

/**
 * Checks one option, and returns the value to use. An option that is left out is `undefined`.
 *
 * @param name names the option in messages
 * @param all every option as it was given, for an option that depends on other options
 * @throws `ConfigurationError` that names the option, what it must be, and the cure
 */
export type Option<Value = unknown> = (
  value: unknown,
  name: string,
  all: Readonly<Record<string, unknown>>,
) => Value

/** Every option of a type, with its check. */
export type OptionTable<Options> = { readonly [Name in keyof Options]-?: Option }

type ValueOf<Check> = Check extends Option<infer Value> ? Value : never

/** The options once they are checked. An option whose check returns `unknown` keeps its type. */
export type Checked<Options, Table extends OptionTable<Options>> = {
  [Name in keyof Options as unknown extends ValueOf<Table[Name]> ? Name : never]: Options[Name]
} & {
  [Name in keyof Options as unknown extends ValueOf<Table[Name]> ? never : Name]-?: ValueOf<Table[Name]>
}

/** The texts in messages about an object of options. */
export interface Usage {
  /** Names the owner of the options, e.g. `bearerProxy()`. */
  readonly of: string
  /**
   * The message for a value that is no object, without its full stop, e.g.
   * `bearerProxy() takes an object: bearerProxy({ target })`.
   */
  readonly takes: string
  /** Shows how the middleware with these options is mounted. */
  readonly mount?: string
  /** Maps a wrong name of an option, e.g. a name from another library, to a sentence that tells the app how to correct it. */
  readonly cures?: Readonly<Record<string, string>>
}

/** Checks an object of options: that it is one, that each name is in the table, and each value. */
export function checkOptions<Options extends object, Table extends OptionTable<Options>>(
  given: Options,
  table: Table,
  usage: Usage,
): Checked<Options, Table> {
  requireObject(given, usage)
  rejectUnknownOptions(given, Object.keys(table), usage.of, usage.cures)
  return checkKnownOptions(given, table, usage)
}

/** Checks the options that are in the table; the object may have others. */
export function checkKnownOptions<Options extends object, Table extends OptionTable<Options>>(
  given: Options,
  table: Table,
  usage: Usage,
): Checked<Options, Table> {
  requireObject(given, usage)
  rejectInheritedOptions(given, Object.keys(table), usage.of)
  const own = ownProperties(given) as Readonly<Record<string, unknown>>
  const checks = Object.entries<Option>(table)
  return Object.fromEntries(checks.map(([name, check]) => [name, check(own[name], name, own)])) as never
}

function requireObject(given: object, { mount, takes }: Usage): void {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new ConfigurationError(`${takes}.`)
  }
  if (mount !== undefined) rejectUncalledFactory(given, mount)
}

/** Throws for an option that comes from a class or from `Object.create()`: it would be left out silently. */
export function rejectInheritedOptions(options: object, allowed: readonly string[], of: string): void {
  let prototype = Object.getPrototypeOf(options)
  // The last one is `Object.prototype`, of this realm or of another one.
  while (prototype !== null && Object.getPrototypeOf(prototype) !== null) {
    const inherited = allowed.find((name) => Object.hasOwn(prototype, name) && !Object.hasOwn(options, name))
    if (inherited !== undefined) {
      throw new ConfigurationError(
        `${of} takes options that are an object's own, and \`${inherited}\` is inherited. ` +
          `Name it in a plain object: { ${inherited}: config.${inherited} }.`,
      )
    }
    prototype = Object.getPrototypeOf(prototype)
  }
}

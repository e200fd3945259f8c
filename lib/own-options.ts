import { ConfigurationError } from './errors.js'
import { ownValue } from './own-properties.js'
import { refuseUnknown } from './spelling.js'

/**
 * Copies options. The copy has every allowed name as a property of its own, `undefined` where the app has not given the
 * option, so neither the copy nor a copy of it inherits one.
 *
 * @param elsewhere what people are used to from other libraries, and what to do instead
 * @throws `ConfigurationError` for a name that is not among those allowed, and for an option that comes from a class or
 *   from `Object.create()`: it would be left out silently
 */
export function ownOptions<Options extends object>(
  options: Options,
  allowed: readonly (keyof Options & string)[],
  where: string,
  elsewhere?: Readonly<Record<string, string>>,
): Options {
  refuseUnknown(options, allowed, where, elsewhere)
  refuseInherited(options, allowed, where)
  return Object.fromEntries(allowed.map((name) => [name, ownValue(options, name)])) as Options
}

/** Throws if an option is a property of a prototype, other than that of all objects. */
export function refuseInherited(options: object, allowed: readonly string[], where: string): void {
  let prototype = Object.getPrototypeOf(options)
  // The last one is `Object.prototype`, of this realm or of another one.
  while (prototype !== null && Object.getPrototypeOf(prototype) !== null) {
    const inherited = allowed.find((name) => Object.hasOwn(prototype, name) && !Object.hasOwn(options, name))
    if (inherited !== undefined) {
      throw new ConfigurationError(
        `${where} takes options that are an object's own, and \`${inherited}\` is inherited. ` +
          `Name it in a plain object: { ${inherited}: config.${inherited} }.`,
      )
    }
    prototype = Object.getPrototypeOf(prototype)
  }
}

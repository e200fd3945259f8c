import { ConfigurationError } from '../errors/token-error.js'
import { flag } from '../options/option-kinds.js'
import { checkOptions, type OptionTable } from '../options/option-table.js'

/** The options of `set()` and `acquire()`: how a login changes its session. */
export interface LoginOptions {
  /**
   * Whether the session gets another id, so that an id from before the login is of no use, and loses its data. It is for
   * express-session and koa-session with a store. A session in a cookie has no id and stays as it is. Default: `false`.
   */
  regenerate?: boolean
  /** The fields of the session that are kept when it is regenerated, such as `['cart']`. Default: none. */
  keepFields?: readonly string[]
}

const OPTIONS = { regenerate: flag(), keepFields: checkedFields } satisfies OptionTable<LoginOptions>

const USAGE = {
  of: 'set() and acquire()',
  takes: 'The options of set() and acquire() must be an object: set(tokenResponse, { regenerate: true })',
  cures: { keep: 'Did you mean `keepFields`?', renew: 'Did you mean `regenerate`?' },
}

/** Checks the options. Returns the fields to keep, or `undefined` if the session stays as it is. */
export function fieldsToKeep(options: LoginOptions): readonly string[] | undefined {
  const { keepFields, regenerate } = checkOptions(options, OPTIONS, USAGE)
  if (!regenerate && keepFields.length > 0) {
    throw new ConfigurationError(
      '`keepFields` has no meaning without regenerate: true. Add it, or leave out `keepFields`.',
    )
  }
  return regenerate ? keepFields : undefined
}

function checkedFields(fields: unknown = []): readonly string[] {
  if (Array.isArray(fields) && fields.every((field) => typeof field === 'string')) return fields
  throw new ConfigurationError("`keepFields` must be an array of names, e.g. keepFields: ['cart'].")
}

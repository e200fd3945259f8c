import { ConfigurationError } from '../../errors/token-error.js'
import type { Option } from '../../options/option-table.js'

/** PostgreSQL cuts longer names off. */
const LONGEST_NAME = 63
/** The functions and the indexes are named after the table: `<table>_release_v1`. */
const LONGEST_SUFFIX = '_expires_at_idx'.length

const DOUBLE = 'double precision'

/** The version of the functions. A process calls those of its own version, so that several versions may run at once. */
const VERSION = 1

/** The quoted names of the table and the functions that the migration creates. */
export interface Names {
  readonly table: string
  /** Whether the migration has been applied is known from this function: it is the last that the migration creates. */
  readonly last: string
  /** Names the lock of the migration. */
  readonly lock: string
  /** Returns the name of the index on a column. */
  indexOn(column: string): string
  /** Returns the name of a function, with its schema. */
  of(method: Method): string
}

export type Method = 'lease' | 'renew' | 'commit' | 'release' | 'end' | 'read'

/**
 * The types of the parameters of each function. A call names these types. Otherwise another function of the same name could fit
 * better: a role that may create functions in the schema could have made it, and it would run with the rights of the app.
 */
const TYPES: Readonly<Record<Method, readonly string[]>> = {
  lease: ['text', 'text', DOUBLE, 'bigint', DOUBLE, DOUBLE, DOUBLE, DOUBLE],
  renew: ['text', 'text', DOUBLE],
  commit: ['text', 'text', 'bigint', 'text', DOUBLE, 'boolean', 'text[]', DOUBLE],
  release: ['text', 'text'],
  end: ['text', 'text', DOUBLE],
  read: ['text'],
}

/** Makes the statement that calls a function. */
export function callOf(names: Names, method: Method): string {
  const parameters = TYPES[method].map((type, index) => `$${index + 1}::${type}`)
  return `select * from ${names.of(method)}(${parameters.join(', ')})`
}

export function namesOf({ schema, table }: { readonly schema: string; readonly table: string }): Names {
  const of = (method: Method) => `${quoted(schema)}.${quoted(`${table}_${method}_v${VERSION}`)}`
  return {
    table: `${quoted(schema)}.${quoted(table)}`,
    indexOn: (column) => quoted(`${table}_${column}_idx`),
    last: of('read'),
    lock: `session-token-manager ${schema}.${table}`,
    of,
  }
}

/** Quotes an identifier, so that each character is part of the name. */
export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** Checks for a name in PostgreSQL: taken as it is, quoted, and neither split at dots nor folded to lower case. */
export function identifier(fallback: string, cure: string, longest = LONGEST_NAME): Option<string> {
  return (value = fallback, name) => {
    const isName =
      typeof value === 'string' && value !== '' && !/[\0.$]/.test(value) && bytesOf(value) <= longest
    if (isName) return value as string
    throw new ConfigurationError(
      `\`${name}\` must be one name of at most ${longest} bytes, without a dot or a dollar sign, e.g. ${cure}.`,
    )
  }
}

/** Checks for the name of a table, with room for the names of its functions. */
export function tableName(fallback: string, cure: string): Option<string> {
  return identifier(fallback, cure, LONGEST_NAME - LONGEST_SUFFIX)
}

function bytesOf(text: string): number {
  return Buffer.byteLength(text)
}

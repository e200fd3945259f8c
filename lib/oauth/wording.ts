import { type Fields, isFields } from './fields.js'

/** Whether a value is what a table lists. */
export type Test = (value: unknown) => boolean

/** One response that a server is known to send: its status, and what stands in which field. */
export interface Wording {
  /** Whose response it is. */
  readonly server: string
  readonly status: readonly number[]
  readonly fields: Readonly<Record<string, Test>>
}

/** One of these very values. `undefined` stands for a field that is not there. */
export function oneOf(...values: readonly (string | number | boolean | undefined)[]): Test {
  return (value) => values.includes(value as string)
}

/** An object whose fields are these. */
export function object(fields: Readonly<Record<string, Test>>): Test {
  return (value) => isFields(value) && haveFields(value, fields)
}

/** An array, not an empty one, in which every object's fields are these. */
export function everyOne(fields: Readonly<Record<string, Test>>): Test {
  return (value) => Array.isArray(value) && value.length > 0 && value.every(object(fields))
}

/** Whether a table lists a response. */
export function isListed(table: readonly Wording[], status: number, fields: Fields): boolean {
  return table.some((wording) => wording.status.includes(status) && haveFields(fields, wording.fields))
}

function haveFields(fields: Fields, tests: Readonly<Record<string, Test>>): boolean {
  return Object.entries(tests).every(([name, test]) =>
    test(Object.hasOwn(fields, name) ? fields[name] : undefined),
  )
}

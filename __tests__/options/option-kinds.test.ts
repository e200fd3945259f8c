import { describe, expect, it } from '@jest/globals'
import { ConfigurationError } from '../../lib/index.js'
import {
  anyString,
  count,
  DAY_MS,
  duration,
  flag,
  fn,
  instanceOf,
  oneOf,
  optional,
  propertyName,
  text,
} from '../../lib/options/option-kinds.js'
import { checkOptions, type Option } from '../../lib/options/option-table.js'

const usage = { of: 'make()', takes: 'make() takes an object: make({ it: 1 })', cures: { that: 'Use `it`.' } }
const check = (option: Option, given: unknown) =>
  checkOptions(given as object, { it: option } as never, usage)

describe('checkOptions(given, table, usage)', () => {
  it.each<[string, Option, unknown[], unknown[], must: string, fallback?: unknown]>([
    ['oneOf', oneOf(['a', 'b', 'c']), ['c'], ['d', null, 1], "'a', 'b' or 'c', or left out", 'a'],
    ['oneOf one', oneOf(['a']), ['a'], ['A'], "'a', or left out", 'a'],
    ['text', text('a'), ['b c'], ['', ' ', 1, null], "a string that is not empty, e.g. it: 'a'", 'a'],
    ['any string', anyString, [''], [undefined, null, 1], 'a string, or left out'],
    ['propertyName', propertyName('a'), ['b'], ['', 'toString', 1], "a name, e.g. it: 'a'", 'a'],
    ['flag', flag(), [true], ['true', 0, null], 'true or false, or left out', false],
    ['fn', fn('() => 1'), [() => 2], [undefined, {}, null], 'a function, e.g. it: () => 1'],
    ['instanceOf', instanceOf(Map, 'a Map'), [new Map()], [undefined, new Set()], 'a Map'],
    ['count', count(5), [0, 7], [-1, 1.5, NaN, '1', null], 'a whole number from 0, e.g. it: 5', 5],
    [
      'count of',
      count(5, { least: 1, most: 9, of: 'apples' }),
      [1, 9],
      [0, 10],
      'a whole number of apples from 1 to 9, e.g. it: 5',
      5,
    ],
    [
      'duration',
      duration(5),
      [1, 1.5, DAY_MS],
      [0, DAY_MS + 1, NaN, Infinity, '1', null],
      'a number of milliseconds from 1 to 86400000 (24 hours), e.g. it: 5',
      5,
    ],
    [
      'duration of any length',
      duration(5, { least: -Infinity, most: Infinity }),
      [-1, 1e12],
      [Infinity, -Infinity],
      'a number of milliseconds, e.g. it: 5',
      5,
    ],
    ['optional', optional(count(5)), [5, undefined], [-1], 'a whole number from 0, e.g. it: 5'],
  ])('%s', (...[, option, right, wrong, must, fallback]) => {
    for (const it of right) expect(check(option, { it })).toEqual({ it })
    for (const it of wrong) {
      expect(() => check(option, { it })).toThrow(new ConfigurationError(`\`it\` must be ${must}.`))
    }
    if (fallback !== undefined) expect(check(option, {})).toEqual({ it: fallback })
  })

  it.each<[string, unknown, string]>([
    ['null', null, 'make() takes an object: make({ it: 1 }).'],
    ['a list', [], 'make() takes an object: make({ it: 1 }).'],
    ['a text', 'it', 'make() takes an object: make({ it: 1 }).'],
    ['another name', { other: 1 }, 'make() has no option `other`. Known are it.'],
    ['a name that is misspelt', { ti: 1 }, 'make() has no option `ti`. Did you mean `it`?'],
    ["another library's name", { that: 1 }, 'make() has no option `that`. Use `it`.'],
    [
      'an option that is inherited',
      Object.create({ it: 1 }),
      "make() takes options that are an object's own, and `it` is inherited. Name it in a plain object: { it: config.it }.",
    ],
  ])('refuses %s', (_, given, message) => {
    expect(() => check(count(5), given)).toThrow(new ConfigurationError(message))
  })

  it('shows no value', () => {
    for (const option of [text('a'), count(1), flag(), fn('() => 1'), oneOf(['a']), propertyName('a')]) {
      expect(() => check(option, { it: ['hush'] })).not.toThrow(/hush/)
    }
  })

  it('tells a check of the other options that were given', () => {
    const others: Option = (value, _, all) => [value, all]
    expect(check(others, { it: 1 })).toEqual({ it: [1, { it: 1 }] })
  })
})

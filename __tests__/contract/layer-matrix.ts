import { it } from '@jest/globals'

/** The scenarios that the suite of session layers plays, by what happens in them. */
const SCENARIOS = {
  S12: 'a request that came before a refresh asks after it',
  S13: 'a request that is two refreshes behind',
  S20: 'a slow request, which changes nothing, ends after a refresh',
  S21: 'a slow request changes the session during a refresh',
  S22: 'a fast request changes the session during a refresh',
  S23: 'a request that only refreshes leaves the rest as it was',
  S24: 'the session is saved or regenerated around a refresh',
  S25: 'the store fails',
  S26: 'all clients disconnect during a refresh',
  S27: 'a refresh after the headers of the response',
  S28: 'the id of the session stays',
  S30: 'the process is restarted',
  S35: 'a logout during a refresh',
  S36: 'a slow request brings back a session that was logged out',
  S37: 'another user logs in during a refresh',
  S61: 'tokens and cookies that are forged, cut off or sealed with another key',
} as const

/** How long the lines of the page are, tables aside. */
const MAX_LINE = 120

/** The session layers, in the order of the matrix. */
const LAYERS = [
  ...(['MemoryStore', 'connect-redis', 'connect-pg-simple', 'session-file-store'] as const),
  ...(['koa-session, store', 'koa-session, cookies', 'cookie-session', 'iron-session'] as const),
  'own `session`',
] as const

export type Layer = (typeof LAYERS)[number]
export type Scenario = keyof typeof SCENARIOS

/** What a layer cannot do, and why: in part, such that the suite tests what holds instead, or at all. */
export interface Limit {
  readonly holds: 'partly' | 'not'
  readonly why: string
}

export type Limits = Partial<Record<Scenario, Limit>>

/** What the matrix has to know of a session layer. Several drivers may be of one layer. */
export interface MatrixLayer {
  /** Its name in the matrix. */
  readonly layer: Layer
  readonly limits: Limits
}

interface Column extends MatrixLayer {
  readonly played: Set<string>
  readonly failed: Set<string>
}

/** Which scenarios hold on which session layers, as the tests of this file have found. */
const found = new Map<Layer, Column>()

/** Defines tests, and notes for the matrix how those with a scenario's number in their title end. */
export interface ScenarioTests {
  (title: string, test: () => Promise<void>): void
  each<T extends readonly unknown[]>(
    rows: readonly T[],
  ): (title: string, test: (...row: T) => Promise<void>) => void
  each<T>(rows: readonly T[]): (title: string, test: (row: T) => Promise<void>) => void
}

export function scenarioTests({ layer, limits }: MatrixLayer): ScenarioTests {
  const column = { layer, limits, played: new Set<string>(), failed: new Set<string>() }
  const noted =
    (title: string, test: (...args: never[]) => Promise<void>) =>
    async (...args: never[]) => {
      const { played, failed } = columnOf(column)
      const [scenario = ''] = /^S\d+/.exec(title) ?? []
      played.add(scenario)
      await test(...args).catch((error) => {
        failed.add(scenario)
        throw error
      })
    }
  const define = (title: string, test: () => Promise<void>) => it(title, noted(title, test))
  return Object.assign(define, {
    each: (rows: readonly never[]) => (title: string, test: (...row: never[]) => Promise<void>) =>
      it.each(rows)(title, noted(title, test) as never),
  }) as ScenarioTests
}

function columnOf(column: Column): Column {
  const known = found.get(column.layer) ?? column
  found.set(column.layer, known)
  return known
}

/** The matrix of those layers that were tested, as a Markdown table with the reasons below it. */
export function matrix(): string {
  const columns = LAYERS.flatMap((layer) => found.get(layer) ?? [])
  const reasons: string[] = []
  const noteOf = (why: string) => {
    if (!reasons.includes(why)) reasons.push(why)
    return reasons.indexOf(why) + 1
  }
  const cell = (scenario: Scenario, { limits, played, failed }: Column) => {
    const limit = limits[scenario]
    if (failed.has(scenario)) return 'fails'
    if (limit?.holds === 'not') return `– (${noteOf(limit.why)})`
    if (!played.has(scenario)) return '?'
    return limit ? `partly (${noteOf(limit.why)})` : '✓'
  }
  const rows = Object.entries(SCENARIOS).map(([scenario, what]) => [
    `${scenario} ${what}`,
    ...columns.map((column) => cell(scenario as Scenario, column)),
  ])
  const head = ['', ...columns.map(({ layer }) => layer)]
  const table = [head, head.map(() => '---'), ...rows].map(tableRow)
  return [...table, '', ...reasons.flatMap((why, index) => listItem(`${index + 1}. `, why))].join('\n')
}

/** The lines of an item of a Markdown list. */
function listItem(bullet: string, text: string): string[] {
  const lines = [bullet.trimEnd()]
  for (const word of text.split(' ')) {
    if (lines.at(-1)!.length + 1 + word.length > MAX_LINE) lines.push(`${' '.repeat(bullet.length)}${word}`)
    else lines.push(`${lines.pop()} ${word}`)
  }
  return lines
}

/** A matrix without the columns of layers that were not tested. */
export function asTested(text: string): string {
  const lines = text.split('\n')
  const head = cellsOf(lines[0] ?? '')
  const isTested = (_: string, index: number) => index === 0 || found.has(head[index] as Layer)
  return lines
    .map((line) => (line.startsWith('|') ? tableRow(cellsOf(line).filter(isTested)) : line))
    .join('\n')
}

function tableRow(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`.replace('|  |', '| |')
}

function cellsOf(line: string): string[] {
  return line
    .slice(1, -1)
    .split('|')
    .map((cell) => cell.trim())
}

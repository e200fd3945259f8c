import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import type { Benchmark, BenchmarkResult } from './benchmark.js'
import { drawChart, shortNumber } from './chart.js'

/** Prints the table of a result, what was reached, and the notes. */
export function print({ rows, reach = [], notes = [] }: BenchmarkResult): void {
  const heads = Object.keys(rows[0] ?? {})
  const cells = rows.map((row) => heads.map((head) => shown(row[head])))
  const widths = heads.map((head, at) => Math.max(head.length, ...cells.map((row) => row[at]!.length)))
  const numeric = heads.map((head) => rows.some((row) => typeof row[head] === 'number'))
  const line = (row: readonly string[]) =>
    row.map((cell, at) => (numeric[at] ? cell.padStart(widths[at]!) : cell.padEnd(widths[at]!))).join('  ')
  console.log(line(heads))
  console.log(widths.map((width) => '─'.repeat(width)).join('  '))
  for (const row of cells) console.log(line(row))
  for (const { text, holds } of reach) console.log(`${holds ? '✓' : '✗'} ${text}`)
  for (const note of notes) console.log(`  ${note}`)
}

/** Writes the result as JSON, and its picture in both color schemes, into a folder. */
export function write(
  folder: string,
  { name, title }: Benchmark,
  quick: boolean,
  result: BenchmarkResult,
): void {
  mkdirSync(folder, { recursive: true })
  const machine = { node: process.version, cpu: cpus()[0]?.model.trim(), cpus: cpus().length }
  const { rows, reach, notes, chart } = result
  const content = { name, title, date: new Date().toISOString(), quick, ...machine, rows, reach, notes }
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(content, rounded, 2)}\n`)
  if (chart === undefined) return
  for (const scheme of ['light', 'dark'] as const)
    writeFileSync(join(folder, `${name}-${scheme}.svg`), drawChart(chart, scheme))
}

/** Shows the progress in one line of a terminal that the next text overwrites; line by line where there is none. */
export function progressOf({ name }: Benchmark): (text: string) => void {
  return (text) => {
    const line = `${name}: ${text}`
    process.stderr.write(process.stderr.isTTY ? `\r\x1b[K${line}` : `${line}\n`)
  }
}

/** Removes the line of the progress. */
export function endProgress(): void {
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K')
}

function rounded(_key: string, value: unknown): unknown {
  return typeof value === 'number' ? Number(value.toPrecision(4)) : value
}

function shown(cell: number | string | undefined): string {
  return typeof cell === 'number' ? shortNumber(cell) : (cell ?? '')
}

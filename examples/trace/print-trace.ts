/** A span as a process reports it. */
export interface TracedSpan {
  readonly process: string
  readonly traceId: string
  readonly spanId: string
  readonly parentId?: string
  readonly name: string
  /** In milliseconds since the epoch. */
  readonly start: number
  readonly end: number
  readonly attributes: Readonly<Record<string, unknown>>
  readonly events: readonly string[]
}

/** Prints the spans as a tree. Of the requests without a span below them, one for each process is shown, and their number. */
export function printTrace(trace: string, spans: readonly TracedSpan[]): void {
  const began = Math.min(...spans.map(({ start }) => start))
  const isKnown = new Set(spans.map(({ spanId }) => spanId))
  const below = (id: string) => spans.filter(({ parentId }) => parentId === id)
  console.log(`trace ${trace}`)
  console.log(' start  duration  process    span')

  const print = (span: TracedSpan, depth: number, more = '') => {
    const times = [span.start - began, span.end - span.start].map((ms) => `${Math.round(ms)} ms`)
    const [start = '', duration = ''] = times
    const name = `${'  '.repeat(depth)}${span.name}${more}`
    console.log(`${start.padStart(6)}  ${duration.padStart(8)}  ${span.process}  ${name}`)
    const details = [
      ...Object.entries(span.attributes).map(
        ([key, value]) => `${key.replace('session_token_manager.', '')}=${value}`,
      ),
      ...span.events.map((event) => `event ${event}`),
    ]
    for (const detail of details) console.log(`${' '.repeat(29)}${'  '.repeat(depth)}  ${detail}`)
    for (const child of below(span.spanId)) print(child, depth + 1)
  }
  const roots = spans.filter(({ parentId }) => parentId === undefined || !isKnown.has(parentId))
  const names = [...new Set(roots.map(({ process }) => process))].sort()
  for (const name of names) {
    const ofProcess = roots.filter(({ process }) => process === name).sort((a, b) => a.start - b.start)
    const [waiting, ...others] = ofProcess.filter(({ spanId }) => below(spanId).length === 0)
    for (const root of ofProcess.filter(({ spanId }) => below(spanId).length > 0)) print(root, 0)
    if (waiting)
      print(
        waiting,
        0,
        others.length > 0 ? `, and ${others.length} more that waited for the same refresh` : '',
      )
  }
}

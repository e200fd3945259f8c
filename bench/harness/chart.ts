/** A picture of numbers: bars beside their labels, or one line a series over the labels. */
export interface Chart {
  readonly kind: 'bars' | 'lines'
  readonly title: string
  /** What the numbers are, for example `CPU time of a request, µs`. */
  readonly unit: string
  /** What the labels are, below the lines. */
  readonly over?: string
  readonly labels: readonly string[]
  /** A missing value is `null`. */
  readonly series: readonly { readonly name: string; readonly values: readonly (number | null)[] }[]
  /** Labels of bars in color; the other bars are gray. Only for one series. */
  readonly highlighted?: readonly string[]
  /** A logarithmic scale, for values above 0. */
  readonly logarithmic?: boolean
}

export type ColorScheme = keyof typeof SCHEMES

const SCHEMES = {
  light: {
    paper: '#ffffff',
    ink: '#1f2328',
    faint: '#d1d9e0',
    gray: '#9aa4ae',
    colors: ['#0969da', '#d1730c', '#1a8f4c', '#a02fb3', '#c4324a', '#6e7781', '#0d8c9e', '#8a6d00'],
  },
  dark: {
    paper: '#0d1117',
    ink: '#e6edf3',
    faint: '#30363d',
    gray: '#6e7681',
    colors: ['#4493f8', '#f0953a', '#3fb968', '#c678dd', '#f4707b', '#9aa4ae', '#39c5d6', '#d4b44a'],
  },
}
const WIDTH = 760
const LEFT = 16
const FONT = 'system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'

/** Draws a chart as SVG text. */
export function drawChart(chart: Chart, scheme: ColorScheme): string {
  const { paper, ink } = SCHEMES[scheme]
  const legend = chart.series.length > 1 ? drawLegend(chart, scheme) : { parts: [], height: 0 }
  const top = 62 + legend.height
  const body = (chart.kind === 'bars' ? drawBars : drawLines)(chart, scheme, top)
  const height = body.bottom + 14
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="${FONT}" font-size="13" fill="${ink}" role="img">`,
    `<title>${escaped(chart.title)}</title>`,
    `<rect width="100%" height="100%" rx="6" fill="${paper}"/>`,
    text(LEFT, 27, chart.title, 'font-size="16" font-weight="600"'),
    text(LEFT, 47, chart.logarithmic ? `${chart.unit} (logarithmic)` : chart.unit, 'opacity=".75"'),
    ...legend.parts,
    ...body.parts,
    '</svg>\n',
  ].join('\n')
}

/** Writes a number with about three digits. */
export function shortNumber(value: number): string {
  if (value === 0 || !Number.isFinite(value)) return String(value)
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))))
  return value.toLocaleString('en', { maximumFractionDigits: Math.min(digits, 4) })
}

function drawLegend({ series }: Chart, scheme: ColorScheme) {
  let x = LEFT
  let y = 72
  const parts = series.flatMap(({ name }, index) => {
    const width = 30 + name.length * 7.2
    if (x > LEFT && x + width > WIDTH - LEFT) [x, y] = [LEFT, y + 21]
    const entry = [
      `<rect x="${x}" y="${y - 10}" width="12" height="12" rx="2" fill="${color(scheme, index)}"/>`,
      text(x + 18, y, name),
    ]
    x += width
    return entry
  })
  return { parts, height: y - 72 + 24 }
}

function drawBars({ labels, series, highlighted, logarithmic }: Chart, scheme: ColorScheme, top: number) {
  const left = LEFT + Math.max(...labels.map((label) => label.length)) * 7.5 + 12
  const scale = scaleOf(series, logarithmic, 0, WIDTH - left - 90)
  const thickness = series.length > 1 ? 14 : 20
  const group = series.length * (thickness + 2) + 10
  const parts = labels.flatMap((label, row) => [
    text(left - 10, top + row * group + (group - 10) / 2 + 4, label, 'text-anchor="end"'),
    ...series.flatMap(({ values }, index) => {
      const value = values[row] ?? null
      const y = top + row * group + index * (thickness + 2)
      const gray = highlighted !== undefined && !highlighted.includes(label)
      const fill = gray ? SCHEMES[scheme].gray : color(scheme, index)
      const width = value === null ? 0 : Math.max(1, scale.at(value))
      return [
        `<rect x="${left}" y="${y}" width="${width.toFixed(1)}" height="${thickness}" rx="2" fill="${fill}"/>`,
        text(left + width + 6, y + thickness / 2 + 4.5, value === null ? '–' : shortNumber(value)),
      ]
    }),
  ])
  return { parts, bottom: top + labels.length * group }
}

function drawLines({ labels, series, logarithmic, over = '' }: Chart, scheme: ColorScheme, top: number) {
  const [left, right, bottom] = [LEFT + 62, WIDTH - 40, top + 280]
  const scale = scaleOf(series, logarithmic, bottom, top + 8)
  const x = (index: number) => left + ((right - left) * (index + 0.5)) / labels.length
  const parts = scale.ticks.flatMap((tick) => [
    `<path d="M${left} ${scale.at(tick).toFixed(1)}H${right}" stroke="${SCHEMES[scheme].faint}"/>`,
    text(left - 8, scale.at(tick) + 4.5, shortNumber(tick), 'text-anchor="end"'),
  ])
  labels.forEach((label, index) => {
    parts.push(text(x(index), bottom + 20, label, 'text-anchor="middle"'))
  })
  series.forEach(({ values }, index) => {
    const stroke = color(scheme, index)
    const points = values.flatMap((value, at) => (value === null ? [] : [[x(at), scale.at(value)] as const]))
    const path = points.map(([px, py]) => `${px.toFixed(1)},${py.toFixed(1)}`).join(' ')
    parts.push(`<polyline points="${path}" fill="none" stroke="${stroke}" stroke-width="2.5"/>`)
    for (const [px, py] of points)
      parts.push(`<circle cx="${px.toFixed(1)}" cy="${py.toFixed(1)}" r="4" fill="${stroke}"/>`)
  })
  parts.push(text((left + right) / 2, bottom + 41, over, 'text-anchor="middle" opacity=".75"'))
  return { parts, bottom: bottom + 44 }
}

/** Leads from a value to a coordinate between `start` (the least value, or 0) and `end` (the greatest). */
function scaleOf(series: Chart['series'], logarithmic = false, start: number, end: number) {
  const values = series.flatMap((one) => one.values).filter((value) => value !== null)
  const greatest = Math.max(...values, Number.MIN_VALUE)
  if (!logarithmic) {
    const step = [1, 2, 2.5, 5, 10].map((part) => part * 10 ** Math.floor(Math.log10(greatest / 4)))
    const size = step.find((one) => one * 5 >= greatest) ?? greatest
    const ticks = Array.from({ length: Math.floor(greatest / size) + 1 }, (_, index) => index * size)
    return { ticks, at: (value: number) => start + ((end - start) * value) / greatest }
  }
  const [low, high] = [Math.floor(Math.log10(Math.min(...values))), Math.ceil(Math.log10(greatest))]
  const ticks = Array.from({ length: high - low + 1 }, (_, index) => 10 ** (low + index))
  const at = (value: number) => start + ((end - start) * (Math.log10(value) - low)) / Math.max(high - low, 1)
  return { ticks, at }
}

function color(scheme: ColorScheme, index: number): string {
  const { colors } = SCHEMES[scheme]
  return colors[index % colors.length]!
}

function text(x: number, y: number, content: string, attributes = ''): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${attributes}>${escaped(content)}</text>`
}

function escaped(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')
}

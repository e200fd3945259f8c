// Draws docs/pictures/storm-light.svg and storm-dark.svg for the README: what 50 calls at once on an expired token do.
// The numbers are those of the tour (`npm start -- --tour`) and of `npm run bench -- --peers --only storm`.
import { mkdirSync, writeFileSync } from 'node:fs'

const CALLS = 50
const WIDTH = 840
const PANEL = 400
const THEMES = {
  light: {
    back: '#ffffff',
    frame: '#d0d7de',
    text: '#1f2328',
    soft: '#59636e',
    good: '#1a7f37',
    bad: '#cf222e',
  },
  dark: {
    back: '#0d1117',
    frame: '#3d444d',
    text: '#f0f6fc',
    soft: '#9198a1',
    good: '#3fb950',
    bad: '#f85149',
  },
}

const panels = [
  {
    title: 'Refresh when the token has expired',
    refreshes: CALLS,
    succeeded: 1,
    end: 'The refresh token was used twice: the user is logged out.',
  },
  {
    title: 'session-token-manager',
    refreshes: 1,
    succeeded: CALLS,
    end: 'All calls get the one new token. The user notices nothing.',
  },
]

const folder = new URL('../docs/pictures/', import.meta.url)
mkdirSync(folder, { recursive: true })
for (const [name, theme] of Object.entries(THEMES)) {
  writeFileSync(new URL(`storm-${name}.svg`, folder), picture(theme))
}

function picture(theme) {
  const label = panels
    .map(({ title, refreshes, succeeded }) => summary(title, refreshes, succeeded))
    .join(' ')
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} 280" width="${WIDTH}" height="280" role="img" aria-label="${label}" font-family="system-ui, -apple-system, 'Segoe UI', sans-serif">
<rect width="${WIDTH}" height="280" fill="${theme.back}"/>
${panels.map((panel, index) => drawPanel(panel, 10 + index * (PANEL + 20), theme)).join('\n')}
</svg>
`
}

function summary(title, refreshes, succeeded) {
  return `${title}: ${CALLS} calls at once, ${refreshes} refreshes, ${succeeded} of ${CALLS} calls succeed.`
}

function drawPanel({ title, refreshes, succeeded, end }, x, theme) {
  const isGood = succeeded === CALLS
  const color = isGood ? theme.good : theme.bad
  const count = (n, what) => `${n} ${what}${n === 1 ? '' : 's'}`
  return [
    `<rect x="${x}" y="10" width="${PANEL}" height="260" rx="8" fill="none" stroke="${theme.frame}"/>`,
    text(x + 20, 40, title, theme.text, 16, 600),
    text(x + 20, 70, `${CALLS} calls at once`, theme.soft),
    marks(CALLS, x + 20, 80, (index) => (index < succeeded ? theme.good : theme.bad)),
    text(
      x + 20,
      150,
      `${count(refreshes, 'refresh').replace('refreshs', 'refreshes')} at the authorization server`,
      theme.soft,
    ),
    marks(refreshes, x + 20, 160, (index) => (index === 0 ? theme.good : theme.bad)),
    text(x + 20, 230, `${succeeded} of ${CALLS} calls succeed`, color, 15, 600),
    text(x + 20, 253, end, theme.text),
  ].join('\n')
}

/** A row of marks for each 25; one that failed is crossed, so that the color is not all that tells. */
function marks(count, x, y, colorOf) {
  return Array.from({ length: count }, (_, index) => {
    const [left, top, color] = [x + (index % 25) * 14.4, y + Math.floor(index / 25) * 20, colorOf(index)]
    const isGood = color === THEMES.light.good || color === THEMES.dark.good
    if (isGood) return `<rect x="${left}" y="${top}" width="11" height="14" rx="2" fill="${color}"/>`
    return `<path d="M${left + 1} ${top + 2}l9 10m0-10l-9 10" stroke="${color}" stroke-width="2" fill="none"/>`
  }).join('')
}

function text(x, y, content, color, size = 13, weight = 400) {
  return `<text x="${x}" y="${y}" fill="${color}" font-size="${size}" font-weight="${weight}">${content}</text>`
}

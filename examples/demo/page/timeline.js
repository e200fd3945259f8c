const $ = (id) => document.getElementById(id)

/** The rows so far, by their number. */
const rows = new Map()
/** What is shown, by what it is about. Refused requests of one kind share a line. */
const lines = new Map()

const NAMES = {
  authorization_code: 'Log in',
  refresh_token: 'Refresh',
  revocation: 'Revocation',
}

/**
 * Shows the time line of the session, and keeps it up to date.
 *
 * @param onRefreshes Is called with all refreshes whenever there is another one.
 * @param onWorkers Is called with the names of the workers, in the cluster.
 */
export function followTimeline(base, { onRefreshes, onWorkers }) {
  const feed = new EventSource(`${base}/timeline`)
  feed.onopen = () => {
    // After a reconnect the server sends all rows again, perhaps of another run.
    rows.clear()
    lines.clear()
    $('rows').replaceChildren()
    showTotals()
    $('feed').textContent = 'live'
    $('feed').className = 'badge good'
  }
  feed.onmessage = ({ data }) => {
    show(JSON.parse(data))
    onRefreshes([...rows.values()].filter(({ request }) => request === 'refresh_token'))
  }
  feed.addEventListener('workers', ({ data }) => onWorkers(JSON.parse(data)))
  feed.onerror = () => {
    $('feed').textContent = 'disconnected'
    $('feed').className = 'badge bad'
  }
}

export function element(name, className, ...children) {
  const made = document.createElement(name)
  made.className = className
  made.append(...children)
  return made
}

export function plural(count, thing, things = `${thing}s`) {
  return `${count} ${count === 1 ? thing : things}`
}

function show(row) {
  rows.set(row.id, row)
  const key = row.error ? `${row.request} ${row.error} ${row.presented}` : row.id
  const line = lines.get(key) ?? { ids: new Set(), at: row.at }
  line.ids.add(row.id)
  const { what, result, look, tokens } = row.kind === 'token' ? tokenRow(row, line.ids.size) : apiRow(row)
  const shown = element(
    'li',
    row.kind,
    element('time', '', clock(line.at)),
    element('span', 'what', what),
    element('span', `badge ${look}`, result),
    element('span', 'tokens', ...tokens),
  )
  if (line.shown) line.shown.replaceWith(shown)
  else $('rows').prepend(shown)
  lines.set(key, Object.assign(line, { shown }))
  showTotals()
}

function tokenRow({ request, status, error, presented, accessToken, refreshToken, expiresIn }, times) {
  const refresh = [presented, refreshToken].filter(Boolean)
  const tokens = [
    accessToken && codes(`access token, good for ${expiresIn} s`, accessToken),
    refresh.length > 0 && codes('refresh token', ...refresh),
  ].filter(Boolean)
  return {
    what: NAMES[request] ?? request,
    result: `${times > 1 ? `${times} × ` : ''}${request} → ${error ?? status}`,
    look: error ? 'bad' : 'good',
    tokens,
  }
}

function apiRow({ answered, refused, refreshes, accessTokens }) {
  const result = [
    `${plural(answered, 'call')} answered`,
    refused > 0 && `${refused} refused`,
    refreshes > 0 && plural(refreshes, 'refresh', 'refreshes'),
  ]
  return {
    what: 'Orders API',
    result: result.filter(Boolean).join(', '),
    look: refused > 0 ? 'warn' : '',
    tokens: [codes('access token', ...accessTokens)],
  }
}

function codes(text, ...fingerprints) {
  const list = fingerprints.flatMap((it, index) => [index > 0 ? ' → ' : '', element('code', '', it)])
  return element('span', '', `${text} `, ...list)
}

function clock(at) {
  const date = new Date(at)
  return `${date.toTimeString().slice(0, 8)}.${String(date.getMilliseconds()).padStart(3, '0')}`
}

function showTotals() {
  const sum = (of) => [...rows.values()].reduce((total, row) => total + of(row), 0)
  $('answered').textContent = sum(({ answered = 0 }) => answered)
  $('refreshes').textContent = sum((row) => Number(row.request === 'refresh_token' && row.status === 200))
  $('refused').textContent = sum(({ refused = 0, error }) => refused + (error ? 1 : 0))
  $('empty').hidden = rows.size > 0
}

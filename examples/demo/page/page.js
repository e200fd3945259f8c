const CALLS = 50

const $ = (id) => document.getElementById(id)
const buttons = ['call', 'expire', 'burst', 'log-out'].map($)

/** When the access token expires, by `performance.now()`; `undefined` without a login. */
let expiresAt
let lifetimeMs = 0
let frame = 0

const INVITATION = 'The login is at the demo’s own authorization server.'
const WELCOME = 'You are logged in. The tokens are in the session, on the server.'

// The session

async function post(path) {
  return fetch(path, { method: 'POST', headers: { 'X-Requested-With': 'fetch' } })
}

async function look() {
  const { user, expiresInMs } = await (await fetch('/api/session')).json()
  expiresAt = user && performance.now() + expiresInMs
  lifetimeMs = Math.max(lifetimeMs, expiresInMs ?? 0)
  $('who').textContent = user ?? 'logged out'
  $('who').className = user ? 'badge good' : 'badge'
  $('log-in').hidden = user !== undefined
  $('life').hidden = user === undefined
  for (const button of buttons) {
    button.disabled = !user
    button.hidden = !user
  }
  cancelAnimationFrame(frame)
  if (user) showLife()
  if ($('said').textContent === '') say(user ? WELCOME : INVITATION)
}

function showLife() {
  const left = Math.max(0, expiresAt - performance.now())
  $('left').textContent = left > 0 ? `good for ${(left / 1000).toFixed(1)} s` : 'expired'
  $('bar').style.transform = `scaleX(${left / lifetimeMs})`
  $('bar').className = left < lifetimeMs / 4 ? 'late' : ''
  if (left > 0) frame = requestAnimationFrame(showLife)
}

// The buttons

function say(text, bad = false) {
  $('said').textContent = text
  $('said').className = bad ? 'said bad' : 'said'
}

/** Runs the action of a button, with the other buttons disabled. */
function on(id, action) {
  $(id).addEventListener('click', async () => {
    for (const button of buttons) button.disabled = true
    try {
      await action()
    } catch (error) {
      say(error instanceof TypeError ? 'The demo does not answer. Is it still running?' : error.message, true)
      await look().catch(() => {})
    }
    for (const button of buttons) button.disabled = false
  })
}

async function orders() {
  const response = await fetch('/api/orders')
  if (response.status === 401) throw new Error('This session is logged out.')
  if (!response.ok) throw new Error(`The call was answered with ${response.status}.`)
  return response.json()
}

function showOrders(list) {
  const rows = list.map(({ id, item, price }) => {
    const row = document.createElement('tr')
    row.append(...[id, item, price].map((text) => element('td', '', text)))
    return row
  })
  $('order-rows').replaceChildren(...rows)
  $('orders').hidden = false
}

on('call', async () => {
  showOrders(await orders())
  say('1 call answered.')
  await look()
})

// The page does not ask for the session afterwards, since that would refresh the token.
on('expire', async () => {
  say('Waiting until the access token has expired …')
  await new Promise((resolve) => setTimeout(resolve, expiresAt - performance.now()))
  showLife()
  say('It has expired. The next call gets a new one.')
})

on('burst', async () => {
  const startedAt = performance.now()
  const calls = await Promise.allSettled(Array.from({ length: CALLS }, orders))
  const answered = calls.filter(({ status }) => status === 'fulfilled')
  const ms = Math.round(performance.now() - startedAt)
  say(`${answered.length} of ${CALLS} calls answered in ${ms} ms.`, answered.length < CALLS)
  if (answered.length > 0) showOrders(answered[0].value)
  await look()
})

on('log-out', async () => {
  const response = await post('/logout')
  const { revoked } = await response.json()
  $('orders').hidden = true
  say(revoked ? 'Logged out, and the refresh token is revoked.' : 'Logged out here.')
  await look()
})

// The time line

const rows = new Map()

function element(name, className, ...children) {
  const made = document.createElement(name)
  made.className = className
  made.append(...children)
  return made
}

function codes(text, ...fingerprints) {
  const list = fingerprints.flatMap((it, index) => [index > 0 ? ' → ' : '', element('code', '', it)])
  return element('span', '', `${text} `, ...list)
}

const NAMES = {
  authorization_code: 'Log in',
  refresh_token: 'Refresh',
  revocation: 'Revocation',
}

function tokenRow({ request, status, error, presented, accessToken, refreshToken, expiresIn }) {
  const refresh = [presented, refreshToken].filter(Boolean)
  const tokens = [
    accessToken && codes(`access token, good for ${expiresIn} s`, accessToken),
    refresh.length > 0 && codes('refresh token', ...refresh),
  ].filter(Boolean)
  return {
    what: NAMES[request] ?? request,
    result: `${request} → ${error ?? status}`,
    look: error ? 'bad' : 'good',
    tokens,
  }
}

function apiRow({ answered, refused, refreshes, accessTokens }) {
  const plural = (count, thing, things = `${thing}s`) => `${count} ${count === 1 ? thing : things}`
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

function clock(at) {
  const date = new Date(at)
  return `${date.toTimeString().slice(0, 8)}.${String(date.getMilliseconds()).padStart(3, '0')}`
}

function show(row) {
  const { what, result, look, tokens } = row.kind === 'token' ? tokenRow(row) : apiRow(row)
  const shown = element(
    'li',
    row.kind,
    element('time', '', clock(row.at)),
    element('span', 'what', what),
    element('span', `badge ${look}`, result),
    element('span', 'tokens', ...tokens),
  )
  const before = rows.get(row.id)
  if (before) before.shown.replaceWith(shown)
  else $('rows').prepend(shown)
  rows.set(row.id, { row, shown })
  $('empty').hidden = true
  showTotals()
}

function showTotals() {
  const all = [...rows.values()].map(({ row }) => row)
  const sum = (of) => all.reduce((total, row) => total + of(row), 0)
  $('answered').textContent = sum(({ answered = 0 }) => answered)
  $('refreshes').textContent = sum((row) => Number(row.request === 'refresh_token' && row.status === 200))
  $('refused').textContent = sum(({ refused = 0, error }) => refused + (error ? 1 : 0))
}

const feed = new EventSource('/timeline')
feed.onopen = () => {
  // After a reconnect the server sends all rows again, perhaps of another run.
  rows.clear()
  $('rows').replaceChildren()
  showTotals()
  $('feed').textContent = 'live'
  $('feed').className = 'badge good'
}
feed.onmessage = ({ data }) => show(JSON.parse(data))
feed.onerror = () => {
  $('feed').textContent = 'disconnected'
  $('feed').className = 'badge bad'
}

await look()

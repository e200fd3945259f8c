import { element, followTimeline, plural } from './timeline.js'

/** The path of the app that the page is about: with the library, or without it. */
const base = location.pathname.startsWith('/without') ? '/without' : ''
const STEPS = ['log-in', 'call', 'expire', 'burst', 'log-out']

const EXPIRED = 'It has expired. The next call needs a new one.'

const $ = (id) => document.getElementById(id)

/** The user who is logged in. */
let user
/** When the access token expires, by `performance.now()`. */
let expiresAt = 0
let lifetimeMs = 0
/** The step that comes next. */
let next = 'log-in'
let isBusy = false
let frame = 0

// The session

async function post(path) {
  return fetch(path, { method: 'POST', headers: { 'X-Requested-With': 'fetch' } })
}

/** Gets the state of the session. With the library, this refreshes an expired token. */
async function look() {
  const session = await (await fetch(`${base}/api/session`)).json()
  expiresAt = performance.now() + (session.expiresInMs ?? 0)
  lifetimeMs = Math.max(lifetimeMs, session.expiresInMs ?? 0)
  user = session.user
}

function render() {
  const reached = STEPS.indexOf(next)
  STEPS.forEach((step, index) => {
    const isNext = index === reached && !isBusy
    $(step).className = [index < reached && 'done', isNext && 'next'].filter(Boolean).join(' ')
  })
  $('who').textContent = user ?? 'logged out'
  $('who').className = user ? 'badge good' : 'badge'
  $('log-in').firstElementChild.hidden = user !== undefined
  $('life').hidden = user === undefined
  for (const step of STEPS.slice(1)) $(step).querySelector('button').disabled = isBusy || !user
  cancelAnimationFrame(frame)
  if (user) showLife()
}

function showLife() {
  const left = Math.max(0, expiresAt - performance.now())
  $('left').textContent = left > 0 ? `good for ${(left / 1000).toFixed(1)} s` : 'expired'
  $('bar').style.transform = `scaleX(${left / lifetimeMs})`
  $('bar').className = left < lifetimeMs / 4 ? 'late' : ''
  if (left > 0) frame = requestAnimationFrame(showLife)
  else if (next === 'expire' && !isBusy) {
    next = 'burst'
    say('expire', EXPIRED)
    render()
  }
}

// The steps

function say(step, text, look = '') {
  const said = $(step).querySelector('.said')
  said.textContent = text
  said.className = `said ${look}`
}

/** Runs the action of a step, which resolves with the step that comes next. */
function on(step, action) {
  $(step)
    .querySelector('button')
    .addEventListener('click', async () => {
      isBusy = true
      render()
      try {
        next = await action()
      } catch (error) {
        const isDown = error instanceof TypeError
        say(step, isDown ? 'The demo does not respond. Is it still running?' : error.message, 'bad')
      }
      isBusy = false
      render()
    })
}

function loggedOut() {
  user = undefined
  say('log-in', '')
  return 'log-in'
}

on('call', async () => {
  const response = await fetch(`${base}/api/orders`)
  if (response.status === 401) {
    say('call', 'This session is logged out.', 'bad')
    return loggedOut()
  }
  if (!response.ok) throw new Error(`The response has status ${response.status}.`)
  const orders = await response.json()
  const cells = ({ id, item, price }) => [id, item, price].map((text) => element('td', '', text))
  $('orders').replaceChildren(...orders.map((order) => element('tr', '', ...cells(order))))
  say('call', `1 call answered${byWorkers([response.headers.get('X-Answered-By')])}.`)
  await look()
  return 'expire'
})

// The page does not ask for the session afterwards, since that would refresh the token.
on('expire', async () => {
  say('expire', 'Waiting until the access token has expired …')
  await new Promise((resolve) => setTimeout(resolve, expiresAt - performance.now()))
  say('expire', EXPIRED)
  return 'burst'
})

on('burst', async () => {
  $('marks').hidden = false
  $('call-marks').replaceChildren(...marks(Array(50).fill('')))
  burstFrom = Date.now()
  showRefreshes()
  const startedAt = performance.now()
  const calls = await (await post(`${base}/burst`)).json()
  const ms = Math.round(performance.now() - startedAt)
  const answered = calls.filter(({ status }) => status === 200)
  const isWell = answered.length === calls.length
  $('call-marks').replaceChildren(...marks(calls.map(({ status }) => (status === 200 ? 'good' : 'bad'))))
  const result = `${answered.length} of ${calls.length} calls answered in ${ms} ms`
  $('call-marks').ariaLabel = result
  const text = `${result}${byWorkers(calls.map(({ worker }) => worker))}.`
  say('burst', isWell ? text : `${text} This session is logged out.`, isWell ? 'good' : 'bad')
  if (calls.some(({ status }) => status === 401)) return loggedOut()
  await look()
  return 'log-out'
})

on('log-out', async () => {
  const { revoked } = await (await post(`${base}/logout`)).json()
  say('log-out', revoked ? 'Logged out, and the refresh token is revoked.' : 'Logged out here.')
  return loggedOut()
})

// The marks: one for each call, and one for each refresh

/** When the calls began, by the clock of the server, which runs on this machine. */
let burstFrom = Number.POSITIVE_INFINITY
let refreshes = []

function marks(looks) {
  return looks.map((look) => element('i', look))
}

function showRefreshes() {
  const looks = refreshes.filter(({ at }) => at >= burstFrom).map(({ error }) => (error ? 'bad' : 'good'))
  $('refresh-marks').replaceChildren(...marks(looks))
  $('refresh-marks').ariaLabel = `${plural(looks.length, 'refresh', 'refreshes')}`
}

// The workers of the cluster

function byWorkers(names) {
  const counts = new Map()
  for (const name of names.filter(Boolean).sort()) counts.set(name, (counts.get(name) ?? 0) + 1)
  if (counts.size === 0) return ''
  return ` by ${[...counts].map(([name, count]) => (names.length > 1 ? `${name} (${count})` : name)).join(', ')}`
}

function showWorkers(names) {
  $('cluster').hidden = false
  $('workers').replaceChildren(
    ...names.map((name) => {
      const button = element('button', 'button kill', 'Kill')
      button.ariaLabel = `Kill ${name}`
      button.addEventListener('click', async () => {
        button.disabled = true
        // A worker that kills itself sends no response.
        await post(`/workers/${name}/kill`).catch(() => {})
        $('killed').textContent =
          `${name} was killed, and a new worker takes its place. The session is in Redis: go on.`
      })
      return element('li', '', name, button)
    }),
  )
}

for (const link of document.querySelectorAll('.switch a')) {
  if (link.pathname === `${base}/`) link.ariaCurrent = 'page'
}
$('log-in').firstElementChild.href = `${base}/login`
followTimeline(base, {
  onRefreshes(all) {
    refreshes = all
    showRefreshes()
  },
  onWorkers: showWorkers,
})
await look()
if (user) {
  next = 'call'
  say('log-in', 'You are logged in. The tokens are in the session, on the server.')
} else say('log-in', 'The login is at the demo’s own authorization server.')
render()

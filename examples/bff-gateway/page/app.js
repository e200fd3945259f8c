const $ = (selector) => document.querySelector(selector)
const returnTo = location.pathname === '/' ? '' : `?returnTo=${encodeURIComponent(location.pathname)}`

/** Messages between tabs: a login or a logout. */
const tabs = new BroadcastChannel('session')

/** The user who is logged in: `null` without a login, `undefined` until the gateway has responded. */
let user
/** Aborts the requests of the logged-in user. */
let session = new AbortController()

// The gateway

async function call(path, options) {
  const answer = await fetch(`/api${path}`, { ...options, redirect: 'error' })
  if (answer.ok) return answer
  const problem = await answer.json().catch(() => ({ title: `Status ${answer.status}` }))
  // An API may require a new login for one request (RFC 9470); the session does not end.
  const isStepUp = problem.error === 'insufficient_user_authentication'
  if (answer.status === 401 && !isStepUp && user)
    logOutHere('Your session has ended, here or in another tab.')
  throw Object.assign(new Error(problem.detail ?? problem.title), isStepUp && { maxAge: problem.max_age })
}

/** Server-sent events by fetch(): an EventSource cannot distinguish a 401 from a broken connection. */
async function* eventsOf(path, signal) {
  const { body } = await call(path, { signal })
  let rest = ''
  for await (const text of chunksOf(body.pipeThrough(new TextDecoderStream()))) {
    const events = (rest + text).split('\n\n')
    rest = events.pop()
    for (const event of events) if (event.startsWith('data: ')) yield JSON.parse(event.slice(6))
  }
}

/** Not every browser has async iteration of streams. */
async function* chunksOf(stream) {
  const reader = stream.getReader()
  for (let it = await reader.read(); !it.done; it = await reader.read()) yield it.value
}

// The panels

const PANELS = {
  catalogue: { path: '/catalogue', rows: ({ items }) => items.map(({ item, price }) => [item, price]) },
  orders: {
    path: '/orders',
    forUser: true,
    rows: ({ orders }) => orders.map(({ id, item, price }) => [id, item, price]),
  },
  billing: {
    path: '/invoices',
    forUser: true,
    rows: ({ invoices }) => invoices.map(({ number, due, amount }) => [number, due, amount]),
  },
}
const inView = Object.keys(PANELS).filter((name) => ['/', `/${name}`].includes(location.pathname))

function element(name, ...children) {
  const made = document.createElement(name)
  made.append(...children)
  return made
}

/** The token that the API behind each panel saw last. */
const lastTokens = new Map()

function shownToken(name, token) {
  if (!token) return ['The API saw no token.']
  const { fingerprint, scope, expiresInMs } = token
  const last = lastTokens.get(name)
  lastTokens.set(name, fingerprint)
  const left = element('span', '')
  left.dataset.expiresAt = performance.now() + expiresInMs
  countDown(left)
  const refreshed = element('span', 'Refreshed: it was ', element('code', last ?? ''), ' before.')
  refreshed.className = 'refreshed'
  return [
    'The API saw token ',
    element('code', fingerprint),
    ' for ',
    element('code', scope),
    ', ',
    left,
    '. ',
    last && last !== fingerprint ? refreshed : '',
  ]
}

function countDown(left) {
  const ms = left.dataset.expiresAt - performance.now()
  left.textContent = ms > 0 ? `good for ${(ms / 1000).toFixed(1)}\u00a0s` : 'expired by now'
}
setInterval(() => document.querySelectorAll('[data-expires-at]').forEach(countDown), 100)

function fill(panel, { rows = [], empty = '', shown = [] }) {
  const cells = (row) => row.map((text) => element('td', String(text)))
  panel.querySelector('tbody').replaceChildren(...rows.map((row) => element('tr', ...cells(row))))
  panel.querySelector('.empty').textContent = empty
  panel.querySelector('.empty').hidden = empty === ''
  panel.querySelector('.shown').replaceChildren(...shown)
}

async function show(name) {
  const { path, forUser, rows } = PANELS[name]
  const panel = $(`#${name}`)
  panel.querySelector('.actions').hidden = forUser && !user
  if (forUser && !user) return fill(panel, { empty: 'Log in to see them.' })
  try {
    const data = await (await call(path)).json()
    fill(panel, { rows: rows(data), shown: shownToken(name, data.token) })
  } catch (error) {
    if (user || !forUser) fill(panel, { empty: error.message })
  }
}

async function listen(signal) {
  while (!signal.aborted) {
    try {
      const openedAt = performance.now()
      for await (const { id, item, state, token } of eventsOf('/orders/news', signal)) {
        const seconds = (ms) => `${Math.round(ms / 1000)} s`
        const left = token.expiresInMs
        $('#stream').textContent = `The stream is open for ${seconds(performance.now() - openedAt)}. ${
          left > 0 ? `Its token is good for ${seconds(left)}.` : `Its token expired ${seconds(-left)} ago.`
        }`
        $('#stream').className = left > 0 ? 'stream' : 'stream past'
        $('#news').prepend(element('li', element('span', `${id} ${item}`), element('span', state)))
        $('#news').children[4]?.remove()
      }
    } catch {
      // The stream broke off, or the gateway could not be reached. The next line checks whether the session has ended.
    }
    await new Promise((resolve) => setTimeout(resolve, 1_000))
  }
}

// The session

function notify(kind, ...children) {
  $('#notice').className = `notice ${kind}`
  $('#notice').replaceChildren(...children)
  $('#notice').hidden = children.length === 0
}

function link(href, text) {
  return Object.assign(element('a', text), { href })
}

function logOutHere(why, ...more) {
  user = null
  lastTokens.clear()
  notify('', `${why} `, link(`/login${returnTo}`, 'Log in again'), ...more)
  render()
}

function render() {
  session.abort()
  session = new AbortController()
  $('#who').textContent = user ?? 'Not logged in'
  $('#log-in').hidden = Boolean(user)
  $('#log-out').hidden = !user
  $('#live').hidden = !user
  $('#news').replaceChildren()
  for (const name of inView) void show(name)
  if (user && inView.includes('orders')) void listen(session.signal)
}

async function look() {
  user = (await (await call('/session')).json()).user
  render()
}

// The browser may restore a page in its state from before a logout.
addEventListener('pageshow', ({ persisted }) => {
  if (persisted) location.reload()
})

$('#log-in').href = `/login${returnTo}`
$(`nav a[href="${location.pathname}"]`)?.setAttribute('aria-current', 'page')
for (const name of Object.keys(PANELS)) {
  $(`#${name}`).hidden = !inView.includes(name)
  $(`#${name} .again`).addEventListener('click', () => show(name))
}

on('#order', async () => {
  const { ordered } = await (await call('/orders', { method: 'POST' })).json()
  notify('good', `Ordered: ${ordered}.`)
  void show('orders')
})

on('#cancel', async () => {
  const { cancelled } = await (await call('/orders/1001', { method: 'DELETE' })).json()
  notify('good', `Cancelled: order ${cancelled}.`)
  void show('orders')
})

on('#log-out', async () => {
  session.abort()
  const answer = await call('/logout', { method: 'POST' }).catch((error) => {
    render()
    throw error
  })
  const { logoutUrl } = await answer.json()
  tabs.postMessage('logged out')
  // The button with the focus disappears.
  $('#main').focus()
  logOutHere(
    'You are logged out.',
    ', or ',
    link(logoutUrl, 'log out of the authorization server as well'),
    '.',
  )
})

/** Runs the action of a button, and shows its error. */
function on(button, action) {
  $(button).addEventListener('click', async () => {
    try {
      await action()
    } catch ({ message, maxAge }) {
      if (!user) return
      if (maxAge === undefined) return notify('bad', message)
      const login = new URLSearchParams({ returnTo: location.pathname, max_age: maxAge })
      notify('', `This takes a login of the last ${maxAge} s. `, link(`/login?${login}`, 'Log in again'))
    }
  })
}

tabs.addEventListener('message', ({ data }) => {
  if (data === 'logged out' && user) logOutHere('You have logged out in another tab.')
  if (data === 'logged in' && !user) {
    notify('')
    void look()
  }
})

if (new URLSearchParams(location.search).get('login') === 'failed') {
  notify('bad', 'The login was not finished. ', link('/login', 'Try again'))
}
try {
  await look()
  if (user) tabs.postMessage('logged in')
} catch {
  notify('bad', 'The gateway does not respond. Is it still running?')
}

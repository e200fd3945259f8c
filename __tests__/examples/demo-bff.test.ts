import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type Demo, startDemo } from '../../examples/demo/demo.js'
import type { Row } from '../../examples/demo/timeline.js'
import { type Browser, browser } from '../helpers/browser.js'

const FROM_OWN_PAGE = { headers: { 'X-Requested-With': 'fetch' } }

let demo: Demo

beforeAll(async () => {
  demo = await startDemo({ port: 0, accessTokenSeconds: 60 })
})
afterAll(() => demo.close())

describe('the BFF of the demo', () => {
  it('gives the session another id at login', async () => {
    const visitor = browser(demo.url)
    const ids = new Set()
    for (let logins = 0; logins < 2; logins++) {
      await finish(visitor, (await visitor.visit('/login')).url)
      ids.add(visitor.cookie('demo.sid'))
    }
    expect([ids.size, ids.has(undefined)]).toEqual([2, false])
    expect((await visitor.get('/api/session')).json.user).toBe('demo user')
  })

  it('refuses the answer to a login that was not started here', async () => {
    const attacker = browser(demo.url)
    const login = await attacker.visit('/login')
    const callback = await callbackOf(attacker, login.url)
    const victim = browser(demo.url)
    await victim.visit('/login')
    const before = tokenRequests()
    expect((await victim.get(callback)).status).toBe(400)
    expect((await victim.get('/api/session')).json).toEqual({})
    expect(tokenRequests()).toBe(before)
  })

  it.each(['/logout', '/api/orders'])('refuses a POST of %s that another page sent', async (path) => {
    const visitor = await loggedIn()
    expect((await visitor.post(path)).status).toBe(403)
    expect((await visitor.get('/api/orders')).status).toBe(200)
  })

  it('answers 401 to those who are not logged in', async () => {
    const visitor = browser(demo.url)
    expect((await visitor.get('/api/orders')).status).toBe(401)
    expect((await visitor.post('/api/orders', undefined, FROM_OWN_PAGE)).status).toBe(401)
  })

  it('keeps an order that was placed in the session', async () => {
    const visitor = await loggedIn()
    const order = await visitor.post('/api/orders', undefined, FROM_OWN_PAGE)
    expect(order.status).toBe(201)
    expect((await visitor.get('/api/session')).json.placed).toEqual([order.json.id])
  })

  it('takes the session away at logout', async () => {
    const visitor = await loggedIn()
    const copy = visitor.clone()
    expect((await visitor.post('/logout', undefined, FROM_OWN_PAGE)).json).toEqual({ revoked: true })
    expect(visitor.cookie('demo.sid')).toBeUndefined()
    expect((await copy.get('/api/orders')).status).toBe(401)
  })

  it.each(['/burst', '/without/burst', '/without/logout'])(
    'refuses a POST of %s that another page sent, and sends no call',
    async (path) => {
      const visitor = await loggedIn()
      const before = demo.timeline.rows.length
      expect((await visitor.post(path)).status).toBe(403)
      expect(demo.timeline.rows).toHaveLength(before)
    },
  )

  it('sends each session the time line of its own login', async () => {
    const [one, other] = [await loggedIn(), await loggedIn()]
    await one.get('/api/orders')
    await other.get('/api/orders')
    const logins = await Promise.all(
      [one, other].map(async (visitor) => {
        const rows = await ownRows(visitor)
        expect(rows.map(({ kind }) => kind)).toEqual(['token', 'api'])
        const [login, ...others] = new Set(rows.map(({ login }) => login))
        expect(others).toEqual([])
        return login
      }),
    )
    expect(new Set(logins).size).toBe(2)
  })
})

/** The first two rows of the time line that a session gets. */
async function ownRows(visitor: Browser): Promise<Row[]> {
  const headers = { Cookie: `demo.sid=${visitor.cookie('demo.sid')}` }
  const reader = (await fetch(`${demo.url}/timeline`, { headers }))
    .body!.pipeThrough(new TextDecoderStream())
    .getReader()
  let rows: string[] = []
  for (let text = ''; rows.length < 2; rows = text.match(/^data: .*(?=\n\n)/gm) ?? []) {
    text += (await reader.read()).value ?? ''
  }
  await reader.cancel()
  return rows.map((row) => JSON.parse(row.slice('data: '.length)))
}

async function loggedIn(): Promise<Browser> {
  const visitor = browser(demo.url)
  await finish(visitor, (await visitor.visit('/login')).url)
  return visitor
}

/** Presses the button of the login page. Answers with where the authorization server then sends the browser. */
async function callbackOf(visitor: Browser, loginPage: string): Promise<string> {
  const pressed = await visitor.post(loginPage)
  const resumed = await visitor.get(pressed.headers.get('location') ?? '')
  return resumed.headers.get('location') ?? ''
}

async function finish(visitor: Browser, loginPage: string): Promise<void> {
  await visitor.get(await callbackOf(visitor, loginPage))
}

function tokenRequests(): number {
  return demo.timeline.rows.filter(({ kind }) => kind === 'token').length
}

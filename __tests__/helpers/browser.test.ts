import { afterEach, describe, expect, it } from '@jest/globals'
import express, { type Express } from 'express'
import { type RunningApp, startApp } from './app.js'
import { browser } from './browser.js'

const running: RunningApp[] = []
async function start(build: (app: Express) => void): Promise<string> {
  const app = await startApp(() => {
    const app = express()
    build(app)
    return app
  })
  running.push(app)
  return app.url
}
afterEach(async () => {
  await Promise.all(running.splice(0).map(({ close }) => close()))
})

const echo = (app: Express) => {
  app.use('/echo', express.text({ type: () => true }), (req, res) => {
    res.json({ cookie: req.headers.cookie ?? '', type: req.headers['content-type'], body: req.body })
  })
}

describe('browser(baseUrl)', () => {
  it('keeps cookies, replaces and forgets them', async () => {
    const url = await start((app) => {
      echo(app)
      app.get('/set', (req, res) => {
        res.append('set-cookie', `a=${req.query.a}; Path=/; HttpOnly`).append('set-cookie', 'b=x=y')
        res.end()
      })
      app.get('/clear', (_req, res) => {
        res.clearCookie('a').cookie('b', '', { maxAge: 0 }).end()
      })
    })
    const tab = browser(url)
    await tab.get('/set?a=1')
    await tab.get('/set?a=2')
    expect((await tab.get('/echo')).json.cookie.split('; ').sort()).toEqual(['a=2', 'b=x=y'])
    expect(tab.cookie('a')).toBe('2')
    await tab.get('/clear')
    expect((await tab.get('/echo')).json.cookie).toBe('')
    expect(tab.cookie('a')).toBeUndefined()
  })

  it('sends a cookie to its path alone', async () => {
    const url = await start((app) => {
      echo(app)
      app.get('/set', (_req, res) => {
        res.append('set-cookie', 'here=1; Path=/echo').append('set-cookie', 'there=1; Path=/ech').end()
      })
    })
    const tab = browser(url)
    await tab.get('/set')
    expect((await tab.get('/echo/below')).json.cookie).toBe('here=1')
  })

  it('posts forms, text and JSON', async () => {
    const tab = browser(await start(echo))
    expect((await tab.post('/echo', { a: 1 })).json).toMatchObject({
      type: 'application/json',
      body: '{"a":1}',
    })
    expect((await tab.post('/echo', new URLSearchParams({ a: '1' }))).json).toMatchObject({ body: 'a=1' })
    const headers = { 'content-type': 'text/csv' }
    expect((await tab.post('/echo', 'a;b', { headers })).json).toMatchObject({
      type: 'text/csv',
      body: 'a;b',
    })
    expect((await tab.post('/echo')).status).toBe(200)
  })

  it('clone() remembers the old cookies, and learns no new ones', async () => {
    const url = await start((app) => {
      echo(app)
      app.get('/set/:value', (req, res) => {
        res.cookie('a', req.params.value).end()
      })
    })
    const tab = browser(url)
    await tab.get('/set/old')
    const stale = tab.clone()
    await tab.get('/set/new')
    expect((await stale.get('/echo')).json.cookie).toBe('a=old')
    expect((await tab.get('/echo')).json.cookie).toBe('a=new')
  })

  it('sends requests in parallel', async () => {
    let waiting = 0
    let open = () => {}
    const all = new Promise<void>((resolve) => {
      open = resolve
    })
    const url = await start((app) => {
      app.get('/', async (_req, res) => {
        waiting += 1
        if (waiting === 50) open()
        await all
        res.end()
      })
    })
    const tab = browser(url)
    const answers = await Promise.all(Array.from({ length: 50 }, () => tab.get('/')))
    expect(answers.every(({ status }) => status === 200)).toBe(true)
  })

  it('disconnects when a request is aborted', async () => {
    const tab = new AbortController()
    let gone = () => {}
    const disconnected = new Promise<void>((resolve) => {
      gone = resolve
    })
    const url = await start((app) => {
      app.get('/', (_req, res) => {
        res.on('close', gone)
        tab.abort()
      })
    })
    await expect(browser(url).get('/', { signal: tab.signal })).rejects.toThrow('aborted')
    await disconnected
  })

  it('visit(path) follows redirects to other origins, get(path) does not', async () => {
    const other = await start((app) => {
      app.get('/there', (req, res) => {
        res.cookie('there', '1').redirect(String(req.query.back))
      })
    })
    const url = await start((app) => {
      echo(app)
      app.get('/login', (_req, res) => {
        res.cookie('here', '1').redirect(`${other}/there?back=${encodeURIComponent(`${url}/echo`)}`)
      })
    })
    const tab = browser(url)
    expect((await tab.get('/login')).status).toBe(302)
    const page = await tab.visit('/login')
    expect(page.url).toBe(`${url}/echo`)
    expect(page.json.cookie).toBe('here=1')
  })
})

import { existsSync } from 'node:fs'
import { afterEach, describe, expect, it } from '@jest/globals'
import express from 'express'
import session, { type SessionData, type Store } from 'express-session'
import { type RunningApp, startApp } from './app.js'
import { browser } from './browser.js'
import { type FileStore, fileStore, readSession, recordingStore, sessionIdOf } from './stores.js'

const closing: (RunningApp | FileStore)[] = []
afterEach(async () => {
  await Promise.all(closing.splice(0).map((resource) => resource.close()))
})

async function startCounter(store: Store): Promise<string> {
  const app = await startApp(() => {
    const app = express()
    app.use(session({ store, secret: 'secret', resave: false, saveUninitialized: false }))
    app.get('/count', (req, res) => {
      const counted = req.session as unknown as { views?: number }
      counted.views = (counted.views ?? 0) + 1
      res.json(counted.views)
    })
    app.get('/look', (req, res) => {
      res.json((req.session as unknown as { views?: number }).views ?? 0)
    })
    app.get('/regenerate', (req, res, next) => {
      req.session.regenerate((error) => (error ? next(error) : res.end()))
    })
    app.use(((error, _req, res, _next) => {
      res.status(500).send(error.message)
    }) as express.ErrorRequestHandler)
    return app
  })
  closing.push(app)
  return app.url
}

const sample = () => ({ cookie: new session.Cookie(), views: 1 }) as unknown as SessionData
const set = (store: Store, sid: string, data = sample()) =>
  new Promise<unknown>((resolve) => store.set(sid, data, resolve))

describe('recordingStore(store)', () => {
  it('counts and logs what express-session asks of the store', async () => {
    const recording = recordingStore()
    const tab = browser(await startCounter(recording.store))
    await tab.get('/count')
    expect(recording.calls.map(({ method }) => method)).toEqual(['set'])
    const sid = sessionIdOf(tab.cookie('connect.sid'))
    expect(recording.calls[0]).toMatchObject({ sid, session: { views: 1 } })
    recording.forget()
    await tab.get('/look')
    expect(recording.calls.map(({ method }) => method)).toEqual(['get', 'touch'])
    expect(recording.count('set')).toBe(0)
    expect(recording.count()).toBe(2)
    recording.forget()
    await tab.get('/regenerate')
    expect(recording.calls.slice(0, 3).map(({ method }) => method)).toEqual(['get', 'regenerate', 'destroy'])
    expect(recording.calls[1]?.sid).toBe(sid)
  })

  it('fails as often as it is told, then works again', async () => {
    const { store, failNext } = recordingStore()
    failNext('set', 2)
    expect(await set(store, 'one')).toBeInstanceOf(Error)
    expect(await set(store, 'one')).toBeInstanceOf(Error)
    expect(await readSession(store, 'one')).toBeUndefined()
    expect(await set(store, 'one')).toBeFalsy()
    failNext('get', 1, new Error('no connection'))
    await expect(readSession(store, 'one')).rejects.toThrow('no connection')
    expect(await readSession(store, 'one')).toMatchObject({ views: 1 })
  })

  it('lets a request see the failure', async () => {
    const recording = recordingStore()
    const tab = browser(await startCounter(recording.store))
    await tab.get('/count')
    recording.failNext('get')
    const answer = await tab.get('/look')
    expect([answer.status, answer.text]).toEqual([500, 'the session store failed to get'])
  })

  it('hold(method) keeps calls from the store, holdAnswer(method) keeps the answers', async () => {
    const { store, hold } = recordingStore()
    const before = hold('set')
    const held = set(store, 'one')
    await before.reached
    expect(await readSession(store, 'one')).toBeUndefined()
    before.release()
    await held
    expect(await readSession(store, 'one')).toMatchObject({ views: 1 })

    const { store: other, holdAnswer } = recordingStore()
    const after = holdAnswer('set')
    const answer = set(other, 'one')
    await after.reached
    expect(await readSession(other, 'one')).toMatchObject({ views: 1 })
    after.release()
    await answer
  })
})

describe('fileStore()', () => {
  it('keeps sessions for the next process, until it is closed', async () => {
    const files = await fileStore()
    closing.push(files)
    const tab = browser(await startCounter(files.store))
    await tab.get('/count')
    const sid = sessionIdOf(tab.cookie('connect.sid'))
    expect(await readSession(files.reopen(), sid)).toMatchObject({ views: 1 })
    expect(await readSession(files.store, 'another')).toBeUndefined()
    const restarted = browser(await startCounter(files.reopen()))
    restarted.setCookie('connect.sid', String(tab.cookie('connect.sid')))
    expect((await restarted.get('/count')).json).toBe(2)
    await files.close()
    expect(existsSync(files.path)).toBe(false)
  })
})

describe('sessionIdOf(cookie)', () => {
  it('refuses what is no session cookie', () => {
    expect(sessionIdOf('s%3Aabc.def.signature%2B')).toBe('abc.def')
    expect(() => sessionIdOf(undefined)).toThrow('not a session cookie')
  })
})

import { afterEach, describe, expect, it, jest } from '@jest/globals'
import session from 'express-session'
import fc from 'fast-check'
import { type GuardedStore, guardedStore } from '../../lib/sessions/guarded-store.js'
import type { SessionData, SessionStore } from '../../lib/sessions/session-store.js'
import type { StoreObserver } from '../../lib/sessions/store-observer.js'
import { createGate } from '../helpers/gate.js'
import { someTurnsOfTheLoop } from '../helpers/next-commit.js'
import { readSession, recordingStore } from '../helpers/stores.js'

type Callback = (error?: unknown, result?: unknown) => void

afterEach(() => {
  jest.useRealTimers()
})

function guarded(recording = recordingStore()) {
  return {
    recording,
    store: recording.store,
    guard: guardedStore(recording.store as unknown as SessionStore),
  }
}

const data = (more: object = {}) =>
  ({ cookie: new session.Cookie(), ...more }) as unknown as session.SessionData & SessionData

function set(store: session.Store, sid: string, value: session.SessionData): Promise<unknown> {
  return new Promise((resolve) => store.set(sid, value, resolve))
}

function destroy(store: session.Store, sid: string): Promise<unknown> {
  return new Promise((resolve) => store.destroy(sid, resolve))
}

const mark = (value: unknown) => (stored: SessionData) => {
  stored.mark = value
  return true
}

/** An observer that changes nothing, with what a test wants of it. */
function observe(guard: GuardedStore, observer: Partial<StoreObserver>): void {
  guard.observers.add({
    key: 'mark',
    audience: 'mark',
    wantsStored: () => false,
    recall: (_, loaded) => loaded,
    isSuperseded: () => false,
    isOutdated: async () => false,
    onSave: (_, data) => data,
    onDestroy: async () => false,
    onClear: async () => async () => {},
    ...observer,
  })
}

describe('clear()', () => {
  const clear = (store: session.Store) => new Promise((resolve) => store.clear!(resolve))

  it('waits for a change that is under way, so that it does not bring the session back', async () => {
    const { recording, store, guard } = guarded()
    await set(store, 'one', data())
    const gate = recording.holdAnswer('get')
    const changing = guard.update('one', mark('newest'))
    await gate.reached
    const clearing = clear(store)
    gate.release()
    expect(await changing).toBe(true)
    await clearing
    expect(await readSession(store, 'one')).toBeUndefined()
  })

  it('holds up what comes meanwhile, of any session', async () => {
    const { recording, store, guard } = guarded()
    await set(store, 'one', data())
    const gate = recording.holdAnswer('get')
    const changing = guard.update('one', mark('newest'))
    await gate.reached
    const order: string[] = []
    const clearing = clear(store).then(() => order.push('cleared'))
    const saving = set(store, 'two', data()).then(() => order.push('saved'))
    await someTurnsOfTheLoop()
    expect(order).toEqual([])
    gate.release()
    await Promise.all([changing, clearing, saving])
    expect(order).toEqual(['cleared', 'saved'])
    expect(await readSession(store, 'one')).toBeUndefined()
    expect(await readSession(store, 'two')).toBeDefined()
  })

  it('tells the observers of all sessions that the store lists, before it empties the store', async () => {
    const { store, guard } = guarded()
    for (const sid of ['one', 'two']) await set(store, sid, data({ mark: sid }))
    const seen: unknown[] = []
    observe(guard, {
      onClear: async (listed) => {
        seen.push(listed.map(({ mark }) => mark).sort(), (await readSession(store, 'one')) !== undefined)
        return async () => void seen.push(await readSession(store, 'one'))
      },
    })
    await clear(store)
    expect(seen).toEqual([['one', 'two'], true, undefined])
  })

  it.each<[string, (emptied: () => void) => (callback?: Callback) => unknown]>([
    ['calls back', (emptied) => (callback) => setImmediate(() => callback!(emptied()))],
    ['returns a promise', (emptied) => async () => emptied()],
    ['is done when it returns', (emptied) => () => emptied()],
  ])('of a store that %s resolves, and calls back', async (_, clearOf) => {
    let emptied = 0
    const store = Object.assign(new session.MemoryStore(), { clear: clearOf(() => void emptied++) })
    guardedStore(store as unknown as SessionStore)
    await store.clear()
    await clear(store)
    expect(emptied).toBe(2)
  })

  it('of a store that destroys each session by its own method does not wait for itself', async () => {
    const store = new session.MemoryStore()
    Object.assign(store, {
      clear(this: session.MemoryStore, callback: Callback) {
        this.destroy('one', callback)
      },
    })
    guardedStore(store as unknown as SessionStore)
    await set(store, 'one', data())
    await clear(store)
    expect(await readSession(store, 'one')).toBeUndefined()
  })

  it('fails as the store fails', async () => {
    const store = Object.assign(new session.MemoryStore(), {
      clear: (callback: Callback) => callback(new Error('no connection')),
    })
    guardedStore(store as unknown as SessionStore)
    expect(await clear(store)).toMatchObject({ message: 'no connection' })
    await expect(Promise.resolve(store.clear(undefined as never))).rejects.toThrow('no connection')
    await set(store, 'one', data())
    expect(await readSession(store, 'one')).toBeDefined()
  })
})

describe('guardedStore(store)', () => {
  it('puts up one guard', () => {
    const { store, guard } = guarded()
    expect(guardedStore(store as unknown as SessionStore)).toBe(guard)
  })

  it('shows nothing new to those who look at the store', () => {
    const store = new session.MemoryStore()
    const keys = Object.keys(store)
    guardedStore(store as unknown as SessionStore)
    expect(Object.keys(store)).toEqual(keys)
  })

  it('lets calls through at once, with what they came with, and hands on what they return', () => {
    const calls: unknown[][] = []
    const store = {
      get(...args: unknown[]) {
        calls.push(['get', this === store, ...args])
      },
      set(...args: unknown[]) {
        calls.push(['set', this === store, ...args.slice(0, 2)])
        return 'returned by set'
      },
      destroy() {},
    }
    guardedStore(store as unknown as SessionStore)
    const value = data()
    expect((store.set as (...args: unknown[]) => unknown)('one', value)).toBe('returned by set')
    expect(calls).toEqual([['set', true, 'one', value]])
    expect(calls[0]![3]).toBe(value)
  })

  it('does without touch() and regenerate()', async () => {
    const { get, set, destroy } = new session.MemoryStore()
    const store = { sessions: {}, get, set, destroy } as unknown as session.Store
    const guard = guardedStore(store as unknown as SessionStore)
    await set.call(store, 'one', data())
    expect(await guard.update('one', mark(1))).toBe(true)
    expect(await readSession(store, 'one')).toMatchObject({ mark: 1 })
    expect(store.touch).toBeUndefined()
    expect(store.regenerate).toBeUndefined()
  })

  it('calls back once, though the store does it twice', () => {
    const store = {
      get() {},
      destroy() {},
      set(_sid: string, _data: unknown, callback: Callback) {
        callback(null, 'first')
        callback(new Error('second'))
      },
    }
    guardedStore(store as unknown as SessionStore)
    const callback = jest.fn()
    store.set('one', data(), callback as Callback)
    expect(callback.mock.calls).toEqual([[null, 'first']])
  })

  it('hands on what a store throws, as the error of the call', async () => {
    const failure = new Error('broken')
    const store = {
      get() {},
      destroy() {},
      set() {
        throw failure
      },
    }
    guardedStore(store as unknown as SessionStore)
    expect(await set(store as unknown as session.Store, 'one', data())).toBe(failure)
  })

  it('stores what the observers make of a session, one after the other', async () => {
    const { store, guard } = guarded()
    observe(guard, { onSave: (_, data) => ({ ...data, trail: `${data.trail}a` }) })
    observe(guard, { onSave: (_, data) => ({ ...data, trail: `${data.trail}b` }) })
    const value = data({ trail: '' })
    await set(store, 'one', value)
    expect(await readSession(store, 'one')).toMatchObject({ trail: 'ab' })
    expect(value).toMatchObject({ trail: '' })
  })

  it('tells the observers of the end of a session, with what was stored, before it is gone', async () => {
    const { store, guard } = guarded()
    await set(store, 'one', data({ user: 'alice' }))
    const seen: unknown[] = []
    observe(guard, {
      async onDestroy(sid, stored, regenerated) {
        seen.push([sid, stored?.user, regenerated, (await readSession(store, sid)) !== undefined])
        return false
      },
    })
    await destroy(store, 'one')
    expect(seen).toEqual([['one', 'alice', false, true]])
    expect(await readSession(store, 'one')).toBeUndefined()
  })
})

describe('guard.read(sid)', () => {
  it.each([
    ['undefined', [undefined, undefined]],
    ['null', [null, null]],
    ['a missing file', [Object.assign(new Error('no file'), { code: 'ENOENT' })]],
  ])('takes %s for no session', async (_, answer) => {
    const store = { set() {}, destroy() {}, get: (_: string, callback: Callback) => callback(...answer) }
    expect((await guardedStore(store as unknown as SessionStore).read('one')) ?? undefined).toBeUndefined()
  })

  it('rejects with what the store reports', async () => {
    const { recording, guard } = guarded()
    recording.failNext('get', 1, new Error('no connection'))
    await expect(guard.read('one')).rejects.toThrow('no connection')
  })

  it('rejects when the store does not answer in 10 seconds', async () => {
    jest.useFakeTimers()
    const store = { get() {}, set() {}, destroy() {} }
    const read = expect(guardedStore(store as unknown as SessionStore).read('one')).rejects.toThrow('in time')
    await jest.advanceTimersByTimeAsync(10_000)
    await read
  })
})

describe('guard.update(sid, change)', () => {
  it('changes the stored session and nothing else in it', async () => {
    const { store, guard } = guarded()
    await set(store, 'one', data({ views: 1 }))
    expect(await guard.update('one', mark('new'))).toBe(true)
    expect(await readSession(store, 'one')).toEqual({
      cookie: expect.anything(),
      views: 1,
      mark: 'new',
    })
  })

  it('writes nothing when the change declines, or when there is no session', async () => {
    const { recording, store, guard } = guarded()
    await set(store, 'one', data())
    recording.forget()
    expect(await guard.update('one', () => false)).toBe(false)
    expect(await guard.update('two', mark(1))).toBe(false)
    expect(recording.count('set')).toBe(0)
    expect(await readSession(store, 'two')).toBeUndefined()
  })

  it('changes a session without a cookie too', async () => {
    const { store, guard } = guarded()
    await set(store, 'one', { views: 1 } as never)
    expect(await guard.update('one', mark('new'))).toBe(true)
    expect(await readSession(store, 'one')).toEqual({ views: 1, mark: 'new' })
  })

  it('does not ask the observers', async () => {
    const { store, guard } = guarded()
    await set(store, 'one', data())
    const onSave = jest.fn((_: string, stored: SessionData) => stored)
    observe(guard, { onSave })
    await guard.update('one', mark(1))
    expect(onSave).not.toHaveBeenCalled()
  })

  it('waits for a save that is on its way, and builds on it', async () => {
    const { recording, store, guard } = guarded()
    await set(store, 'one', data())
    const gate = recording.hold('set')
    const save = set(store, 'one', data({ views: 7 }))
    await gate.reached
    const update = guard.update('one', mark(1))
    gate.release()
    await Promise.all([save, update])
    expect(await readSession(store, 'one')).toMatchObject({ views: 7, mark: 1 })
  })

  it.each(['get', 'set'] as const)('makes saves wait, during its %s, and they see it', async (method) => {
    const { recording, store, guard } = guarded()
    await set(store, 'one', data())
    const updated = { mark: 'old' as unknown }
    observe(guard, { onSave: (_, stored) => ({ ...stored, mark: updated.mark }) })
    const gate = recording.holdAnswer(method)
    const update = guard.update('one', (stored) => {
      updated.mark = 'new'
      stored.mark = 'new'
      return true
    })
    await gate.reached
    const save = set(store, 'one', data({ views: 7 }))
    gate.release()
    await Promise.all([update, save])
    expect(await readSession(store, 'one')).toMatchObject({ views: 7, mark: 'new' })
  })

  it('waits for a touch() that calls set(), and holds neither up', async () => {
    const inner = new session.MemoryStore()
    const touching = createGate()
    inner.touch = ((sid: string, value: session.SessionData, callback?: Callback) => {
      void touching.pass().then(() => inner.set(sid, value, callback))
    }) as typeof inner.touch
    const { store, guard } = guarded(recordingStore(inner))
    await set(store, 'one', data())
    const touch = new Promise((resolve) => store.touch('one', data({ views: 7 }), () => resolve(true)))
    await touching.reached
    const update = guard.update('one', mark(1))
    touching.release()
    await Promise.all([touch, update])
    expect(await readSession(store, 'one')).toMatchObject({ views: 7, mark: 1 })
  }, 3_000)

  it('takes turns with other updates of the session', async () => {
    const { store, guard } = guarded()
    await set(store, 'one', data({ mark: 0 }))
    const add = () =>
      guard.update('one', (stored) => {
        stored.mark = (stored.mark as number) + 1
        return true
      })
    await Promise.all(Array.from({ length: 20 }, add))
    expect(await readSession(store, 'one')).toMatchObject({ mark: 20 })
  })

  it('does not wait for other sessions', async () => {
    const { recording, store, guard } = guarded()
    await set(store, 'one', data())
    await set(store, 'two', data())
    const gate = recording.hold('set')
    void set(store, 'one', data({ views: 7 }))
    await gate.reached
    let read = false
    void guard.update('two', () => {
      read = true
      return false
    })
    await new Promise((resolve) => setImmediate(resolve))
    expect(read).toBe(true)
    gate.release()
  })

  it('goes ahead of a store that never calls back, after 5 seconds', async () => {
    jest.useFakeTimers({ doNotFake: ['setImmediate'] })
    const { recording, store, guard } = guarded()
    await set(store, 'one', data())
    const gate = recording.holdAnswer('set')
    void set(store, 'one', data({ views: 7 }))
    await gate.reached
    let changed = false
    void guard.update('one', () => {
      changed = true
      return false
    })
    await jest.advanceTimersByTimeAsync(4_999)
    expect(changed).toBe(false)
    await jest.advanceTimersByTimeAsync(1)
    await new Promise((resolve) => setImmediate(resolve))
    expect(changed).toBe(true)
    gate.release()
  })

  it.each(['callback', 'throw', 'promise'] as const)(
    'rejects when the store fails (%s), and lets the next one through',
    async (way) => {
      const store = new session.MemoryStore()
      const { set: original } = store
      let failing = false
      store.set = ((sid: string, value: session.SessionData, callback?: Callback) => {
        if (!failing) return original.call(store, sid, value, callback)
        failing = false
        const error = new Error('no')
        if (way === 'throw') throw error
        if (way === 'promise') return Promise.reject(error)
        return setImmediate(callback!, error)
      }) as typeof store.set
      const guard = guardedStore(store as unknown as SessionStore)
      await set(store, 'one', data())
      failing = true
      await expect(guard.update('one', mark(1))).rejects.toThrow('no')
      expect(await guard.update('one', mark(2))).toBe(true)
      expect(await readSession(store, 'one')).toMatchObject({ mark: 2 })
    },
  )

  it('loses no save and no update, in whatever order the store answers', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.array(fc.constantFrom('save', 'update', 'touch'), { minLength: 2, maxLength: 8 }),
        async (scheduler, deeds) => {
          const rows = new Map<string, string>([['one', JSON.stringify({ views: 0, mark: 0 })]])
          /** Updates that wrote over a save that they had not seen. */
          let lost = 0
          const later = (work: () => unknown, callback: Callback = () => {}) =>
            void scheduler.schedule(Promise.resolve()).then(() => {
              // A store that writes when it is asked, and answers when it likes.
              const result = work()
              void scheduler.schedule(Promise.resolve()).then(() => callback(null, result))
            })
          const store = {
            get: (sid: string, callback: Callback) =>
              later(() => rows.has(sid) && JSON.parse(rows.get(sid)!), callback),
            set: (sid: string, value: { views: number; mark: number; updated?: true }, callback?: Callback) =>
              later(() => {
                if (value.updated && JSON.parse(rows.get(sid)!).views !== value.views) lost += 1
                const { updated: _, ...row } = value
                rows.set(sid, JSON.stringify(row))
              }, callback),
            touch: (_sid: string, _value: object, callback?: Callback) => later(() => {}, callback),
            destroy: (sid: string, callback?: Callback) => later(() => rows.delete(sid), callback),
          }
          const guard = guardedStore(store as unknown as SessionStore)
          let newest = 0
          observe(guard, { onSave: (_, stored) => ({ ...stored, mark: newest }) })
          let saves = 0
          const done = deeds.map((deed) => {
            if (deed === 'update') {
              newest += 1
              const mine = newest
              return guard.update('one', (stored) => {
                if ((stored.mark as number) >= mine) return false
                Object.assign(stored, { mark: mine, updated: true })
                return true
              })
            }
            if (deed === 'touch') return new Promise((resolve) => store.touch('one', {}, resolve))
            saves += 1
            const views = saves
            return new Promise((resolve) => store.set('one', { views, mark: 0 }, resolve))
          })
          await scheduler.waitFor(Promise.all(done))
          const { views, mark } = JSON.parse(rows.get('one')!)
          expect(mark).toBe(newest)
          if (saves > 0) expect(views).toBeGreaterThan(0)
          expect(lost).toBe(0)
        },
      ),
      { numRuns: 500 },
    )
  })
})

describe('destroying a session', () => {
  it('waits for an update that is under way: the session does not come back', async () => {
    const { recording, store, guard } = guarded()
    await set(store, 'one', data())
    const gate = recording.hold('set')
    const update = guard.update('one', mark(1))
    await gate.reached
    const gone = destroy(store, 'one')
    gate.release()
    await Promise.all([update, gone])
    expect(await readSession(store, 'one')).toBeUndefined()
  })

  it('makes an update wait until it is over: the session does not come back', async () => {
    const { recording, store, guard } = guarded()
    await set(store, 'one', data())
    const destroying = recording.hold('destroy')
    const gone = destroy(store, 'one')
    await destroying.reached
    const writing = recording.hold('set')
    const update = guard.update('one', mark(1))
    await someTurnsOfTheLoop()
    destroying.release()
    await gone
    writing.release()
    await update
    expect(await readSession(store, 'one')).toBeUndefined()
  })

  it('waits for a save that is on its way: the session does not come back', async () => {
    const { recording, store } = guarded()
    const gate = recording.hold('set')
    const save = set(store, 'one', data({ views: 7 }))
    await gate.reached
    const gone = destroy(store, 'one')
    await someTurnsOfTheLoop()
    expect(recording.count('destroy')).toBe(0)
    gate.release()
    await Promise.all([save, gone])
    expect(await readSession(store, 'one')).toBeUndefined()
  })

  it('fails as the store fails, though its callback is the only one to hear', async () => {
    const { recording, store } = guarded()
    recording.failNext('destroy', 1, new Error('no connection'))
    expect(await destroy(store, 'one')).toMatchObject({ message: 'no connection' })
  })

  it('ends though the observers cannot be told what was stored', async () => {
    const { recording, store, guard } = guarded()
    await set(store, 'one', data())
    const seen: unknown[] = []
    observe(guard, { onDestroy: async (...args) => seen.push(args) === 0 })
    recording.failNext('get')
    await destroy(store, 'one')
    expect(seen).toEqual([['one', undefined, false]])
    expect(await readSession(store, 'one')).toBeUndefined()
  })

  it('by regenerate() is told apart', async () => {
    const { store, guard } = guarded()
    Object.assign(store, { generate: (request: { sessionID: string }) => (request.sessionID = 'two') })
    await set(store, 'one', data())
    const seen: unknown[] = []
    observe(guard, {
      onDestroy: async (sid, _, regenerated) => seen.push([sid, regenerated]) === 0,
    })
    const request = { sessionID: 'one' } as never
    await new Promise((resolve) => store.regenerate(request, resolve))
    await destroy(store, 'two')
    await destroy(store, 'one')
    expect(seen).toEqual([
      ['one', true],
      ['two', false],
      ['one', false],
    ])
  })

  it('by regenerate() is told apart, though another request regenerates it at the same time', async () => {
    const { recording, store, guard } = guarded()
    Object.assign(store, { generate: () => {} })
    await set(store, 'one', data())
    const seen: unknown[] = []
    observe(guard, {
      onDestroy: async (sid, _, regenerated) => seen.push([sid, regenerated]) === 0,
    })
    const gate = recording.hold('destroy')
    const requests = [1, 2].map(
      () => new Promise((resolve) => store.regenerate({ sessionID: 'one' } as never, resolve)),
    )
    await gate.reached
    gate.release()
    await Promise.all(requests)
    expect(seen).toEqual([
      ['one', true],
      ['one', true],
    ])
  })
})

describe('a store that answers with promises alone', () => {
  /** A store without callbacks, which fails with the error if there is one. */
  function promising(fail?: Error) {
    const deed = async () => {
      if (fail) throw fail
    }
    const store = {
      get: (_sid: string, callback: Callback) => callback(null, data()),
      set: (_sid: string, _value: object, _callback?: Callback): unknown => deed(),
      destroy: (_sid: string, _callback?: Callback): unknown => deed(),
    }
    return { store, guard: guardedStore(store as unknown as SessionStore) }
  }

  it.each(['set', 'destroy'] as const)(
    '%s() is over when its promise is',
    async (method) => {
      const { store, guard } = promising()
      await (method === 'set' ? store.set('one', data()) : store.destroy('one'))
      expect(await guard.update('one', () => false)).toBe(false)
    },
    3_000,
  )

  it.each(['set', 'destroy'] as const)(
    '%s() that fails tells the promise and the callback',
    async (method) => {
      const failure = new Error('no')
      const { store } = promising(failure)
      const callback = jest.fn()
      const returned = method === 'set' ? store.set('one', data(), callback) : store.destroy('one', callback)
      await expect(returned).rejects.toBe(failure)
      await someTurnsOfTheLoop()
      expect(callback.mock.calls).toEqual([[failure]])
    },
  )
})

describe('a call whose outcome nobody waits for', () => {
  /** A store whose methods throw while it is broken, and what became of it in the process. */
  function breakable() {
    const unhandled: unknown[] = []
    const listener = (reason: unknown) => void unhandled.push(reason)
    process.on('unhandledRejection', listener)
    const store = new session.MemoryStore()
    let broken = false
    for (const method of ['set', 'destroy'] as const) {
      const original = store[method] as (...args: unknown[]) => unknown
      Object.assign(store, {
        [method](...args: unknown[]) {
          if (broken) throw new Error('broken')
          return original.apply(store, args)
        },
      })
    }
    return {
      store,
      guard: guardedStore(store as unknown as SessionStore),
      unhandled,
      break: () => {
        broken = true
      },
      stop: () => process.off('unhandledRejection', listener),
    }
  }

  it.each(['set', 'destroy'] as const)(
    'and that waited for its turn: %s() that throws harms nobody',
    async (method) => {
      const { store, guard, unhandled, break: breakNow, stop } = breakable()
      try {
        await set(store, 'one', data())
        const updating = createGate()
        const update = guard.update('one', () => {
          void updating.pass()
          return false
        })
        const heard = new Promise((resolve) =>
          method === 'set' ? store.set('one', data(), resolve) : store.destroy('one', resolve),
        )
        breakNow()
        await update
        expect(await heard).toMatchObject({ message: 'broken' })
        await someTurnsOfTheLoop()
        expect(unhandled).toEqual([])
      } finally {
        stop()
      }
    },
  )

  it('set() without a callback that throws still throws', async () => {
    const { store, guard, break: breakNow, stop } = breakable()
    stop()
    breakNow()
    expect(() => store.set('one', data())).toThrow('broken')
    expect(await guard.update('one', () => false)).toBe(false)
  }, 3_000)
})

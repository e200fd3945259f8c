import { spawnSync } from 'node:child_process'
import { afterEach, describe, expect, it, jest } from '@jest/globals'
import session from 'express-session'
import fc from 'fast-check'
import { FAST_WRITE_MS, STORE_TIMEOUT_MS } from '../../../lib/concurrency/time-constants.js'
import type { SessionData, SessionStore } from '../../../lib/sessions/store/original-store.js'
import { type PatchedStore, patchedStore } from '../../../lib/sessions/store/patched-store.js'
import type { SaveInterceptor } from '../../../lib/sessions/store/save-interceptor.js'
import { createGate } from '../../helpers/gate.js'
import { someTurnsOfTheLoop } from '../../helpers/next-commit.js'
import { readSession, recordingStore } from '../../helpers/stores.js'

type Callback = (error?: unknown, result?: unknown) => void

afterEach(() => {
  jest.useRealTimers()
})

function patchedRecording(recording = recordingStore()) {
  return {
    recording,
    store: recording.store,
    patched: patchedStore(recording.store as unknown as SessionStore),
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

/** The whole process stands still for longer than a fast write takes. */
function standStill(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, FAST_WRITE_MS + 20)
}

const mark = (value: unknown) => (stored: SessionData) => {
  stored.mark = value
  return true
}

/** Adds an interceptor that changes nothing, except as the test says. */
function intercept(patched: PatchedStore, interceptor: Partial<SaveInterceptor>): void {
  patched.interceptors.add({
    key: 'mark',
    current: new Map(),
    audience: 'mark',
    wantsStored: () => false,
    recall: (_, loaded) => loaded,
    onTouch(sid, data, loaded, onWrite) {
      return this.onSave(sid, data, loaded, loaded?.values ?? data, onWrite)
    },
    isOutdated: async () => false,
    onSave: (_, data) => data,
    onDestroy: async () => false,
    onClear: async () => async () => {},
    ...interceptor,
  })
}

describe('clear()', () => {
  const clear = (store: session.Store) => new Promise((resolve) => store.clear!(resolve))

  it('waits for a running change, which must not bring the session back', async () => {
    const { recording, store, patched } = patchedRecording()
    await set(store, 'one', data())
    const gate = recording.holdAnswer('get')
    const changing = patched.update('one', mark('newest'))
    await gate.reached
    const clearing = clear(store)
    gate.release()
    expect(await changing).toBe(true)
    await clearing
    expect(await readSession(store, 'one')).toBeUndefined()
  })

  it('makes later operations of every session wait', async () => {
    const { recording, store, patched } = patchedRecording()
    await set(store, 'one', data())
    const gate = recording.holdAnswer('get')
    const changing = patched.update('one', mark('newest'))
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

  it('calls the interceptors with all sessions that the store lists, before it empties the store', async () => {
    const { store, patched } = patchedRecording()
    for (const sid of ['one', 'two']) await set(store, sid, data({ mark: sid }))
    const seen: unknown[] = []
    intercept(patched, {
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
    patchedStore(store as unknown as SessionStore)
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
    patchedStore(store as unknown as SessionStore)
    await set(store, 'one', data())
    await clear(store)
    expect(await readSession(store, 'one')).toBeUndefined()
  })

  it('fails as the store fails', async () => {
    const store = Object.assign(new session.MemoryStore(), {
      clear: (callback: Callback) => callback(new Error('no connection')),
    })
    patchedStore(store as unknown as SessionStore)
    expect(await clear(store)).toMatchObject({ message: 'no connection' })
    await expect(Promise.resolve(store.clear(undefined as never))).rejects.toThrow('no connection')
    await set(store, 'one', data())
    expect(await readSession(store, 'one')).toBeDefined()
  })

  it('of a store that fails ends no process, though the app looks at neither a callback nor a promise', async () => {
    const store = Object.assign(new session.MemoryStore(), {
      clear: (callback: Callback) => callback(new Error('no connection')),
    })
    patchedStore(store as unknown as SessionStore)
    // An unhandled rejection would fail this test.
    void store.clear(undefined as never)
    await set(store, 'one', data())
    await someTurnsOfTheLoop()
  })

  it('of a store whose callback is a default parameter resolves when the store calls back', async () => {
    let isEmpty = false
    const empty = (callback: Callback) => {
      isEmpty = true
      callback()
    }
    const store = Object.assign(new session.MemoryStore(), {
      clear: (callback: Callback = () => {}) => void setTimeout(empty, 50, callback),
    })
    patchedStore(store as unknown as SessionStore)
    await clear(store)
    expect(isEmpty).toBe(true)
  })

  it('that never calls back delays later saves for 10 seconds at most', async () => {
    jest.useFakeTimers({ doNotFake: ['setImmediate'] })
    const store = Object.assign(new session.MemoryStore(), { clear: (_: Callback) => {} })
    patchedStore(store as unknown as SessionStore)
    void clear(store)
    await someTurnsOfTheLoop()
    jest.advanceTimersByTime(STORE_TIMEOUT_MS)
    await someTurnsOfTheLoop()
    await set(store, 'one', data())
    expect(await readSession(store, 'one')).toBeDefined()
  }, 3_000)

  it('twice at once delays no later save', async () => {
    const { store } = patchedRecording()
    await Promise.all([clear(store), clear(store)])
    await set(store, 'one', data())
    expect(await readSession(store, 'one')).toBeDefined()
  }, 3_000)
})

describe('patchedStore(store)', () => {
  it('patches a store once', () => {
    const { store, patched } = patchedRecording()
    expect(patchedStore(store as unknown as SessionStore)).toBe(patched)
  })

  it('adds no enumerable property to the store', () => {
    const store = new session.MemoryStore()
    const keys = Object.keys(store)
    patchedStore(store as unknown as SessionStore)
    expect(Object.keys(store)).toEqual(keys)
  })

  it('passes calls on at once, with their arguments, and returns their results', () => {
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
    patchedStore(store as unknown as SessionStore)
    const value = data()
    expect((store.set as (...args: unknown[]) => unknown)('one', value)).toBe('returned by set')
    expect(calls).toEqual([['set', true, 'one', value]])
    expect(calls[0]![3]).toBe(value)
  })

  it('works without touch() and regenerate()', async () => {
    const { get, set, destroy } = new session.MemoryStore()
    const store = { sessions: {}, get, set, destroy } as unknown as session.Store
    const patched = patchedStore(store as unknown as SessionStore)
    await set.call(store, 'one', data())
    expect(await patched.update('one', mark(1))).toBe(true)
    expect(await readSession(store, 'one')).toMatchObject({ mark: 1 })
    expect(store.touch).toBeUndefined()
    expect(store.regenerate).toBeUndefined()
  })

  it('calls back once, though the store calls back twice', () => {
    const store = {
      get() {},
      destroy() {},
      set(_sid: string, _data: unknown, callback: Callback) {
        callback(null, 'first')
        callback(new Error('second'))
      },
    }
    patchedStore(store as unknown as SessionStore)
    const callback = jest.fn()
    store.set('one', data(), callback as Callback)
    expect(callback.mock.calls).toEqual([[null, 'first']])
  })

  it('rejects with the error that a store throws', async () => {
    const failure = new Error('broken')
    const store = {
      get() {},
      destroy() {},
      set() {
        throw failure
      },
    }
    patchedStore(store as unknown as SessionStore)
    expect(await set(store as unknown as session.Store, 'one', data())).toBe(failure)
  })

  it('stores the session as the interceptors change it, one after the other', async () => {
    const { store, patched } = patchedRecording()
    intercept(patched, { onSave: (_, data) => ({ ...data, trail: `${data.trail}a` }) })
    intercept(patched, { onSave: (_, data) => ({ ...data, trail: `${data.trail}b` }) })
    const value = data({ trail: '' })
    await set(store, 'one', value)
    expect(await readSession(store, 'one')).toMatchObject({ trail: 'ab' })
    expect(value).toMatchObject({ trail: '' })
  })

  it('merges a save again if the process stood still between its read of the session and its write', async () => {
    const { store, patched } = patchedRecording()
    await set(store, 'one', data({ mark: 'old' }))
    const { sessions } = store as unknown as { sessions: Record<string, string> }
    let calls = 0
    intercept(patched, {
      wantsStored: () => true,
      onSave: (_, saved, __, stored) => {
        if (++calls === 1) {
          sessions.one = JSON.stringify({ ...JSON.parse(sessions.one!), mark: 'new' })
          standStill()
        }
        return { ...saved, mark: stored?.mark }
      },
    })
    await set(store, 'one', data({ cart: 'full', mark: 'old' }))
    expect(await readSession(store, 'one')).toMatchObject({ cart: 'full', mark: 'new' })
    expect(calls).toBe(2)
  })

  /** Reads take longer than a fast write. */
  function readSlowly(store: session.Store): void {
    const get = store.get.bind(store)
    store.get = (sid, callback) => void setTimeout(() => get(sid, callback), FAST_WRITE_MS + 10)
  }

  it('does what an interceptor adds for its write once, although it reads a slow store again', async () => {
    const recording = recordingStore()
    readSlowly(recording.store)
    const { store, patched } = patchedRecording(recording)
    await set(store, 'one', data({ mark: 'old' }))
    recording.forget()
    const writes: unknown[] = []
    let calls = 0
    intercept(patched, {
      wantsStored: () => true,
      onSave(_, saved, __, ___, onWrite) {
        const call = ++calls
        onWrite(() => writes.push([call, recording.count('set')]))
        return { ...saved, mark: call }
      },
    })
    await set(store, 'one', data({ mark: 'old' }))
    expect(await readSession(store, 'one')).toMatchObject({ mark: calls })
    expect(writes).toEqual([[calls, 0]])
  })

  it('fails as an interceptor fails, and calls it once', async () => {
    const { recording, store, patched } = patchedRecording()
    const failure = new Error('no such revision')
    const onSave = jest.fn<SaveInterceptor['onSave']>(() => {
      throw failure
    })
    intercept(patched, { wantsStored: () => true, onSave })
    expect(await set(store, 'one', data())).toBe(failure)
    expect(onSave).toHaveBeenCalledTimes(1)
    expect(recording.count('set')).toBe(0)
  })

  it('reads once if the read fails, and calls the interceptors with what they recall', async () => {
    const { recording, store, patched } = patchedRecording()
    const seen: unknown[] = []
    intercept(patched, {
      wantsStored: () => true,
      recall: () => 'recalled',
      onSave(_, saved, __, stored) {
        seen.push(stored)
        return saved
      },
    })
    recording.failNext('get')
    expect(await set(store, 'one', data({ mark: 'old' }))).toBeFalsy()
    expect(seen).toEqual([{ mark: 'recalled' }])
    expect(recording.count('get')).toBe(1)
  })

  it('calls the interceptors with the stored session before it is destroyed', async () => {
    const { store, patched } = patchedRecording()
    await set(store, 'one', data({ user: 'alice' }))
    const seen: unknown[] = []
    intercept(patched, {
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

describe('patched.read(sid)', () => {
  it.each([
    ['undefined', [undefined, undefined]],
    ['null', [null, null]],
    ['a missing file', [Object.assign(new Error('no file'), { code: 'ENOENT' })]],
  ])('reads %s as no session', async (_, answer) => {
    const store = { set() {}, destroy() {}, get: (_: string, callback: Callback) => callback(...answer) }
    expect(
      (await patchedStore(store as unknown as SessionStore).original.read('one')) ?? undefined,
    ).toBeUndefined()
  })

  it('rejects with the error of the store', async () => {
    const { recording, patched } = patchedRecording()
    recording.failNext('get', 1, new Error('no connection'))
    await expect(patched.original.read('one')).rejects.toThrow('no connection')
  })

  it('rejects when the store does not respond in 10 seconds', async () => {
    jest.useFakeTimers()
    const store = { get() {}, set() {}, destroy() {} }
    const read = expect(patchedStore(store as unknown as SessionStore).original.read('one')).rejects.toThrow(
      'in time',
    )
    await jest.advanceTimersByTimeAsync(10_000)
    await read
  })
})

describe('patched.update(sid, change)', () => {
  it('reads again if the process stood still between its read and its write', async () => {
    const { store, patched } = patchedRecording()
    await set(store, 'one', data({ cart: 'empty' }))
    const { sessions } = store as unknown as { sessions: Record<string, string> }
    let calls = 0
    const change = (stored: SessionData) => {
      if (++calls === 1) {
        const other = JSON.parse(sessions.one!)
        sessions.one = JSON.stringify({ ...other, cart: 'full' })
        standStill()
      }
      return mark('new')(stored)
    }
    expect(await patched.update('one', change)).toBe(true)
    expect(await readSession(store, 'one')).toMatchObject({ cart: 'full', mark: 'new' })
    expect(calls).toBe(2)
  })

  it.each([
    ['once', 'cart', [0]],
    ['not at all, if the session that was read again needs no change', 'mark', []],
  ])('says that it is about to store the session: %s', async (_, key, expected) => {
    const { recording, store, patched } = patchedRecording()
    await set(store, 'one', data({ mark: 'old' }))
    recording.forget()
    const { sessions } = store as unknown as { sessions: Record<string, string> }
    let calls = 0
    const change = (stored: SessionData) => {
      if (++calls === 1) {
        sessions.one = JSON.stringify({ ...JSON.parse(sessions.one!), [key]: 'new' })
        standStill()
      }
      return stored.mark === 'new' ? false : mark('new')(stored)
    }
    const writes: number[] = []
    const isStored = await patched.update('one', change, () => writes.push(recording.count('set')))
    expect(isStored).toBe(expected.length > 0)
    expect(writes).toEqual(expected)
    expect(calls).toBe(2)
  })

  it('changes the stored session and nothing else in it', async () => {
    const { store, patched } = patchedRecording()
    await set(store, 'one', data({ views: 1 }))
    expect(await patched.update('one', mark('new'))).toBe(true)
    expect(await readSession(store, 'one')).toEqual({
      cookie: expect.anything(),
      views: 1,
      mark: 'new',
    })
  })

  it('writes nothing when the change declines, or when there is no session', async () => {
    const { recording, store, patched } = patchedRecording()
    await set(store, 'one', data())
    recording.forget()
    expect(await patched.update('one', () => false)).toBe(false)
    expect(await patched.update('two', mark(1))).toBe(false)
    expect(recording.count('set')).toBe(0)
    expect(await readSession(store, 'two')).toBeUndefined()
  })

  it('changes a session without a cookie too', async () => {
    const { store, patched } = patchedRecording()
    await set(store, 'one', { views: 1 } as never)
    expect(await patched.update('one', mark('new'))).toBe(true)
    expect(await readSession(store, 'one')).toEqual({ views: 1, mark: 'new' })
  })

  it('does not call the interceptors', async () => {
    const { store, patched } = patchedRecording()
    await set(store, 'one', data())
    const onSave = jest.fn((_: string, stored: SessionData) => stored)
    intercept(patched, { onSave })
    await patched.update('one', mark(1))
    expect(onSave).not.toHaveBeenCalled()
  })

  it('waits for a running save, and changes the session that it has stored', async () => {
    const { recording, store, patched } = patchedRecording()
    await set(store, 'one', data())
    const gate = recording.hold('set')
    const save = set(store, 'one', data({ views: 7 }))
    await gate.reached
    const update = patched.update('one', mark(1))
    gate.release()
    await Promise.all([save, update])
    expect(await readSession(store, 'one')).toMatchObject({ views: 7, mark: 1 })
  })

  it.each(['get', 'set'] as const)(
    'makes saves wait during its %s, and they see its change',
    async (method) => {
      const { recording, store, patched } = patchedRecording()
      await set(store, 'one', data())
      const updated = { mark: 'old' as unknown }
      intercept(patched, { onSave: (_, stored) => ({ ...stored, mark: updated.mark }) })
      const gate = recording.holdAnswer(method)
      const update = patched.update('one', (stored) => {
        updated.mark = 'new'
        stored.mark = 'new'
        return true
      })
      await gate.reached
      const save = set(store, 'one', data({ views: 7 }))
      gate.release()
      await Promise.all([update, save])
      expect(await readSession(store, 'one')).toMatchObject({ views: 7, mark: 'new' })
    },
  )

  it('waits for a touch() that calls set(), and delays neither', async () => {
    const inner = new session.MemoryStore()
    const touching = createGate()
    inner.touch = ((sid: string, value: session.SessionData, callback?: Callback) => {
      void touching.pass().then(() => inner.set(sid, value, callback))
    }) as typeof inner.touch
    const { store, patched } = patchedRecording(recordingStore(inner))
    await set(store, 'one', data())
    const touch = new Promise((resolve) => store.touch('one', data({ views: 7 }), () => resolve(true)))
    await touching.reached
    const update = patched.update('one', mark(1))
    touching.release()
    await Promise.all([touch, update])
    expect(await readSession(store, 'one')).toMatchObject({ views: 7, mark: 1 })
  }, 3_000)

  it('waits for all touches of the session that are in flight', async () => {
    const inner = new session.MemoryStore()
    const calledBack: (() => void)[] = []
    inner.touch = ((_sid: string, _value: session.SessionData, callback?: Callback) => {
      calledBack.push(() => callback?.())
    }) as typeof inner.touch
    const { store, patched } = patchedRecording(recordingStore(inner))
    await set(store, 'one', data())
    for (const _ of [1, 2]) store.touch('one', data(), () => {})
    let changed = false
    const update = patched.update('one', () => {
      changed = true
      return false
    })
    for (const callBack of calledBack.reverse()) {
      await new Promise((resolve) => setImmediate(resolve))
      expect(changed).toBe(false)
      callBack()
    }
    await update
    expect(changed).toBe(true)
  })

  it('runs one update of a session at a time', async () => {
    const { store, patched } = patchedRecording()
    await set(store, 'one', data({ mark: 0 }))
    const add = () =>
      patched.update('one', (stored) => {
        stored.mark = (stored.mark as number) + 1
        return true
      })
    await Promise.all(Array.from({ length: 20 }, add))
    expect(await readSession(store, 'one')).toMatchObject({ mark: 20 })
  })

  it('does not wait for other sessions', async () => {
    const { recording, store, patched } = patchedRecording()
    await set(store, 'one', data())
    await set(store, 'two', data())
    const gate = recording.hold('set')
    void set(store, 'one', data({ views: 7 }))
    await gate.reached
    let read = false
    void patched.update('two', () => {
      read = true
      return false
    })
    await new Promise((resolve) => setImmediate(resolve))
    expect(read).toBe(true)
    gate.release()
  })

  it('begins after 5 seconds, though the store never calls back', async () => {
    jest.useFakeTimers({ doNotFake: ['setImmediate'] })
    const { recording, store, patched } = patchedRecording()
    await set(store, 'one', data())
    const gate = recording.holdAnswer('set')
    void set(store, 'one', data({ views: 7 }))
    await gate.reached
    let changed = false
    void patched.update('one', () => {
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
    'rejects when the store fails (%s), and the next update runs',
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
      const patched = patchedStore(store as unknown as SessionStore)
      await set(store, 'one', data())
      failing = true
      await expect(patched.update('one', mark(1))).rejects.toThrow('no')
      expect(await patched.update('one', mark(2))).toBe(true)
      expect(await readSession(store, 'one')).toMatchObject({ mark: 2 })
    },
  )

  it('loses no save and no update, in whatever order the store responds', async () => {
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
          const patched = patchedStore(store as unknown as SessionStore)
          let newest = 0
          intercept(patched, { onSave: (_, stored) => ({ ...stored, mark: newest }) })
          let saves = 0
          const done = deeds.map((deed) => {
            if (deed === 'update') {
              newest += 1
              const mine = newest
              return patched.update('one', (stored) => {
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
  it('waits for a running update: the session does not come back', async () => {
    const { recording, store, patched } = patchedRecording()
    await set(store, 'one', data())
    const gate = recording.hold('set')
    const update = patched.update('one', mark(1))
    await gate.reached
    const gone = destroy(store, 'one')
    gate.release()
    await Promise.all([update, gone])
    expect(await readSession(store, 'one')).toBeUndefined()
  })

  it('makes an update wait until it has ended: the session does not come back', async () => {
    const { recording, store, patched } = patchedRecording()
    await set(store, 'one', data())
    const destroying = recording.hold('destroy')
    const gone = destroy(store, 'one')
    await destroying.reached
    const writing = recording.hold('set')
    const update = patched.update('one', mark(1))
    await someTurnsOfTheLoop()
    destroying.release()
    await gone
    writing.release()
    await update
    expect(await readSession(store, 'one')).toBeUndefined()
  })

  it('waits for a running save: the session does not come back', async () => {
    const { recording, store } = patchedRecording()
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

  it('fails as the store fails, if only its callback reports it', async () => {
    const { recording, store } = patchedRecording()
    recording.failNext('destroy', 1, new Error('no connection'))
    expect(await destroy(store, 'one')).toMatchObject({ message: 'no connection' })
  })

  it('destroys the session though the stored session cannot be read', async () => {
    const { recording, store, patched } = patchedRecording()
    await set(store, 'one', data())
    const seen: unknown[] = []
    intercept(patched, { onDestroy: async (...args) => seen.push(args) === 0 })
    recording.failNext('get')
    await destroy(store, 'one')
    expect(seen).toEqual([['one', undefined, false]])
    expect(await readSession(store, 'one')).toBeUndefined()
  })

  it('by regenerate() is recognised', async () => {
    const { store, patched } = patchedRecording()
    Object.assign(store, { generate: (request: { sessionID: string }) => (request.sessionID = 'two') })
    await set(store, 'one', data())
    const seen: unknown[] = []
    intercept(patched, {
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

  it('by regenerate() is recognised, though another request regenerates it at the same time', async () => {
    const { recording, store, patched } = patchedRecording()
    Object.assign(store, { generate: () => {} })
    await set(store, 'one', data())
    const seen: unknown[] = []
    intercept(patched, {
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

describe('a store that returns promises and never calls back', () => {
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
    return { store, patched: patchedStore(store as unknown as SessionStore) }
  }

  it.each(['set', 'destroy'] as const)(
    '%s() has ended when its promise has settled',
    async (method) => {
      const { store, patched } = promising()
      await (method === 'set' ? store.set('one', data()) : store.destroy('one'))
      expect(await patched.update('one', () => false)).toBe(false)
    },
    3_000,
  )

  it.each(['set', 'destroy'] as const)(
    '%s() that fails rejects the promise and calls back',
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

describe('a call without a callback', () => {
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
      patched: patchedStore(store as unknown as SessionStore),
      unhandled,
      break: () => {
        broken = true
      },
      stop: () => process.off('unhandledRejection', listener),
    }
  }

  it.each(['set', 'destroy'] as const)(
    'that waited for a lock: %s() that throws causes no unhandled rejection',
    async (method) => {
      const { store, patched, unhandled, break: breakNow, stop } = breakable()
      try {
        await set(store, 'one', data())
        const updating = createGate()
        const update = patched.update('one', () => {
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
    const { store, patched, break: breakNow, stop } = breakable()
    stop()
    breakNow()
    expect(() => store.set('one', data())).toThrow('broken')
    expect(await patched.update('one', () => false)).toBe(false)
  }, 3_000)
})

describe('an error that a callback of the app throws', () => {
  it('reaches the caller if the store calls back at once', async () => {
    const store = { get: () => {}, set: (...args: unknown[]) => (args[2] as Callback)(), destroy: () => {} }
    patchedStore(store as unknown as SessionStore)
    const save = () =>
      store.set('one', data(), () => {
        throw new Error('a fault of the app')
      })
    expect(save).toThrow('a fault of the app')
    expect(save).toThrow('a fault of the app')
  }, 3_000)

  it.each(['set("one", { cookie: {}, mark: 1 }, fail)', 'destroy("one", fail)', 'clear(fail)'])(
    'ends the process, as without the library, if it is called later: %s',
    (call) => {
      const script = `
      const { default: session } = await import('express-session')
      const { patchedStore } = await import('./lib/sessions/store/patched-store.ts')
      const store = new session.MemoryStore()
      patchedStore(store).interceptors.add({
        key: 'mark',
        current: new Map(),
        wantsStored: () => true,
        onSave: (_, data) => data,
        isOutdated: async () => false,
        onDestroy: async () => false,
        onClear: async () => async () => {},
      })
      const fail = () => { throw new Error('a fault of the app') }
      store.${call}`
      const { status, stderr } = spawnSync(
        process.execPath,
        ['--import', 'tsx', '--input-type=module', '-e', script],
        { encoding: 'utf8' },
      )
      expect(stderr).toContain('a fault of the app')
      expect(status).toBe(1)
    },
    30_000,
  )
})

import { describe, expect, it } from '@jest/globals'
import session from 'express-session'
import { systemClock } from '../../../lib/concurrency/clock.js'
import { GrantRegistry } from '../../../lib/grants/grant-registry.js'
import { GrantReferenceCodec } from '../../../lib/sessions/codec/grant-reference-codec.js'
import { TokenSetCodec } from '../../../lib/sessions/codec/token-set-codec.js'
import type { SessionData, SessionStore } from '../../../lib/sessions/store/original-store.js'
import { patchedStore } from '../../../lib/sessions/store/patched-store.js'
import type { LoadingRequest } from '../../../lib/sessions/store/session-baseline.js'
import { StoredTokens } from '../../../lib/sessions/store/stored-tokens.js'
import { type GrantIdentity, grantIdOf } from '../../../lib/tokens/grant-proof.js'
import type { TokenSet } from '../../../lib/tokens/token-set.js'
import { createGate } from '../../helpers/gate.js'
import { someTurnsOfTheLoop } from '../../helpers/next-commit.js'

// biome-ignore lint/suspicious/noExplicitAny: the type of express-session
type Callback = (error?: any, data?: any) => void

/** A store whose `touch()` stores the whole session, as many stores do. */
class UpsertingStore extends session.Store {
  readonly touched: unknown[] = []
  /** What the next touches wait for. */
  gate = Promise.resolve()
  readonly #rows = new Map<string, string>()

  override get(sid: string, callback: Callback): void {
    const row = this.#rows.get(sid)
    setImmediate(() => callback(null, row && JSON.parse(row)))
  }

  override set(sid: string, data: object, callback: Callback): void {
    setImmediate(() => {
      this.#rows.set(sid, JSON.stringify(data))
      callback()
    })
  }

  override touch(sid: string, data: object, callback: Callback): void {
    this.touched.push(data)
    const row = JSON.stringify(data)
    void this.gate.then(() => {
      this.#rows.set(sid, row)
      callback()
    })
  }

  override destroy(sid: string, callback: Callback): void {
    setImmediate(() => {
      this.#rows.delete(sid)
      callback()
    })
  }

  stored(sid: string): SessionData | undefined {
    const row = this.#rows.get(sid)
    return row === undefined ? undefined : JSON.parse(row)
  }
}

function tokensOf(name: string, revision: number): TokenSet {
  const proof = `proof of ${name}`
  const token = { token: `${name} ${revision}`, tokenType: 'Bearer', obtainedAt: 0, expiresAt: 1 }
  return {
    grantId: grantIdOf(proof),
    proof,
    share: name,
    revision,
    refreshToken: name,
    accessTokens: [token],
  }
}

function site(codec: TokenSetCodec, ...otherKeys: string[]) {
  const store = new UpsertingStore()
  const patched = patchedStore(store as unknown as SessionStore)
  const registry = new GrantRegistry(systemClock)
  const grants = {
    isShared: false,
    newestOf: registry.newestOf.bind(registry),
    onChange: registry.onChange.bind(registry),
    isOutdated: async () => false,
    async end(of: GrantIdentity) {
      registry.end(of, 'logged_out')
      return false
    },
  }
  const context = { audience: 'web', codec, grants, isSealed: false, acceptsUnsealed: false }
  const [tokens] = ['tokens', ...otherKeys].map((key) => new StoredTokens({ ...context, key }, patched))
  const called = (method: 'set' | 'touch' | 'destroy', sid: string, ...data: object[]) =>
    new Promise((resolve) => (store[method] as (...args: unknown[]) => void)(sid, ...data, resolve))
  return {
    store,
    registry,
    tokens: tokens!,
    called,
    async login(sid: string, of: TokenSet) {
      registry.learn(of)
      await called('set', sid, { cookie: new session.Cookie(), tokens: codec.write(of) })
    },
    /** Loads a session, as a request does. */
    async load(sid: string) {
      const data = await new Promise<object>((resolve) =>
        store.get(sid, (_, found) => resolve(found as object)),
      )
      const request: object = { sessionID: sid, sessionStore: store }
      store.createSession(request as never, data as never)
      return request as { session: session.Session & { tokens?: string } }
    },
    replace: (sid: string, of: TokenSet, copy: string | undefined) =>
      tokens!.replace(sid, of, copy, (stored) => (codec.read(stored)?.revision ?? of.revision) < of.revision),
  }
}

it('a logout that comes after the touch of an older login, and after its wait for a newer login, has the last word', async () => {
  const codec = new TokenSetCodec('web')
  const { store, registry, tokens, called, login, load } = site(codec)
  const [older, newer] = [tokensOf('older', 1), tokensOf('newer', 1)]
  registry.learn(newer)
  await login('sid', older)
  const [one, two] = [await load('sid'), await load('sid')]
  two.session.tokens = codec.write(newer)
  const ended: string[] = []
  const note = (what: string) => () => void ended.push(what)
  await Promise.all([
    tokens.login('sid', two.session as never, codec.write(older)).then(note('login')),
    called('touch', 'sid', one.session).then(note('touch')),
    called('destroy', 'sid').then(note('logout')),
  ])
  expect(ended.indexOf('touch')).toBeLessThan(ended.indexOf('logout'))
  expect(store.stored('sid')).toBeUndefined()
})

describe('a touch that a store finishes late', () => {
  async function touching() {
    const codec = new TokenSetCodec('web')
    const app = site(codec)
    const [older, newer] = [tokensOf('older', 1), tokensOf('newer', 1)]
    app.registry.learn(newer)
    await app.login('sid', older)
    const [one, two, three] = [await app.load('sid'), await app.load('sid'), await app.load('sid')]
    const gate = createGate()
    app.store.gate = gate.pass()
    const touch = app.called('touch', 'sid', one.session)
    // A save of another request comes in between.
    await app.called('set', 'sid', three.session)
    const stored = () => codec.read(app.store.stored('sid')?.tokens)?.share
    return { ...app, codec, older, newer, two, gate, touch, stored }
  }

  it('does not undo a login, though another request has saved the session meanwhile', async () => {
    const { codec, tokens, older, newer, two, gate, touch, stored } = await touching()
    two.session.tokens = codec.write(newer)
    const login = tokens.login('sid', two.session as never, codec.write(older))
    await someTurnsOfTheLoop()
    gate.release()
    await Promise.all([login, touch])
    expect(stored()).toBe('newer')
  })

  it('brings no tokens back after a logout', async () => {
    const { called, gate, touch, stored } = await touching()
    await called('destroy', 'sid')
    gate.release()
    await touch
    await someTurnsOfTheLoop()
    expect(stored()).toBeUndefined()
  })
})

it('a session that was regenerated, and is touched under its old id by a slow request, is refreshed and logged out too', async () => {
  const codec = new TokenSetCodec('web')
  const { store, registry, called, login, load, replace } = site(codec)
  const grant = [1, 2, 3, 4].map((revision) => tokensOf('one', revision))
  const refresh = async (revision: number, sid: string) => {
    registry.learn(grant[revision - 1]!)
    await replace(sid, grant[revision - 1]!, codec.write(grant[revision - 1]!))
  }
  const revisionIn = (sid: string) => codec.read(store.stored(sid)?.tokens)?.revision
  await login('old', grant[0]!)
  const slow = await load('old')
  await refresh(2, 'old')
  const regenerating = await load('old')
  const { tokens: copy } = regenerating.session
  Object.assign(store, {
    generate(request: LoadingRequest) {
      request.sessionID = 'new'
      store.createSession(request as never, { cookie: new session.Cookie() } as never)
    },
  })
  await new Promise((resolve) => store.regenerate(regenerating as never, resolve))
  regenerating.session.tokens = copy!
  await called('set', 'new', regenerating.session)
  await called('touch', 'old', slow.session)
  await refresh(3, 'new')
  expect(['old', 'new'].map(revisionIn)).toEqual([3, 3])
  registry.end(grant[0]!, 'logged_out')
  await replace('new', grant[3]!, undefined)
  expect(['old', 'new'].map((sid) => store.stored(sid)?.tokens)).toEqual([undefined, undefined])
})

it('a touched session with a reference is passed on as it is, also beside another middleware', async () => {
  const { store, called, login, load } = site(new GrantReferenceCodec('web'), 'others')
  await login('sid', tokensOf('one', 5))
  for (let n = 0; n < 2; n++) {
    const { session } = await load('sid')
    await called('touch', 'sid', session)
    expect(store.touched.at(-1)).toBe(session)
  }
})

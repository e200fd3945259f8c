import { randomBytes } from 'node:crypto'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { seal } from '../../../lib/sessions/codec/sealing.js'
import { TokenSetCodec } from '../../../lib/sessions/codec/token-set-codec.js'
import { grantIdOf, randomProof } from '../../../lib/tokens/grant-proof.js'
import { newest, type TokenSet } from '../../../lib/tokens/token-set.js'
import { type AuthorizationServer, startAuthorizationServer } from '../../helpers/authorization-server.js'
import { type Site, sharedSessions, startSite } from '../../helpers/site.js'
import { readSession, sessionIdOf } from '../../helpers/stores.js'

const AUDIENCE = 'web https://idp.example'
const KEY = randomBytes(32).toString('base64')
const copies = new TokenSetCodec(AUDIENCE)
const accessToken = fc.record(
  {
    token: fc.string({ minLength: 1 }),
    tokenType: fc.constantFrom('Bearer', 'DPoP'),
    scope: fc.string({ minLength: 1 }),
    requestedScope: fc.string({ minLength: 1 }),
    resource: fc.webUrl(),
    audience: fc.string({ minLength: 1 }),
    obtainedAt: fc.integer({ min: 0 }),
    expiresAt: fc.integer({ min: 0 }),
  },
  { requiredKeys: ['token', 'tokenType', 'obtainedAt', 'expiresAt'] },
)
const tokenSet = fc.record(
  {
    grantId: fc.uuid(),
    revision: fc.integer({ min: 1 }),
    refreshToken: fc.string({ minLength: 1 }),
    idToken: fc.string({ minLength: 1 }),
    accessTokens: fc.array(accessToken, { maxLength: 4 }),
  },
  { requiredKeys: ['grantId', 'revision', 'accessTokens'], noNullPrototype: true },
) as fc.Arbitrary<TokenSet>

const stored = (value: unknown): unknown => JSON.parse(JSON.stringify(value))
/** What is in a copy. */
const contentOf = (copy: string): Record<string, unknown> => JSON.parse(copy)

/** A place in a JSON value. */
type Path = readonly (string | number)[]

function pathsIn(value: unknown, path: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return [path]
  return [path, ...Object.entries(value).flatMap(([key, inner]) => pathsIn(inner, [...path, key]))]
}

function replacedAt(value: unknown, path: Path, by: unknown): unknown {
  if (path.length === 0) return by
  const [key, ...rest] = path as [string, ...string[]]
  const copy = structuredClone(value) as Record<string, unknown>
  const inner = replacedAt(copy[key], rest, by)
  if (inner === undefined) delete copy[key]
  else copy[key] = inner
  return copy
}

/** A copy as it is stored, with something in it replaced or removed. */
const mutated = fc
  .tuple(
    tokenSet,
    fc.array(fc.tuple(fc.nat(), fc.option(fc.jsonValue(), { nil: undefined })), { minLength: 1 }),
  )
  .map(([tokens, changes]) => {
    let value: unknown = contentOf(copies.write(tokens))
    for (const [place, by] of changes) {
      const paths = pathsIn(value)
      value = stored(replacedAt(value, paths[place % paths.length]!, by) ?? null)
    }
    return JSON.stringify(value)
  })

/** Whether a value is all that the library takes a token set for. */
function isTokenSet(value: TokenSet): boolean {
  const text = (part: unknown) => typeof part === 'string' && part !== ''
  const textOrAbsent = (part: unknown) => part === undefined || text(part)
  return (
    text(value.grantId) &&
    Number.isSafeInteger(value.revision) &&
    value.revision > 0 &&
    textOrAbsent(value.refreshToken) &&
    textOrAbsent(value.idToken) &&
    value.accessTokens.every(
      (token) =>
        text(token.token) &&
        text(token.tokenType) &&
        [token.scope, token.requestedScope, token.resource, token.audience].every(textOrAbsent) &&
        Number.isFinite(token.obtainedAt) &&
        Number.isFinite(token.expiresAt),
    )
  )
}

describe('codec.read(copy)', () => {
  it('returns the token set that was written, also after a round trip through JSON', () => {
    fc.assert(
      fc.property(tokenSet, (tokens) => {
        expect(copies.read(copies.write(tokens))).toEqual(tokens)
        expect(copies.read(stored(copies.write(tokens)))).toEqual(tokens)
      }),
    )
  })

  it('returns undefined for any other JSON value, and never throws', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(copies.read(value)).toBeUndefined()
      }),
    )
  })

  it('returns undefined for any other value', () => {
    fc.assert(
      fc.property(fc.anything(), (value) => {
        expect(copies.read(value)).toBeUndefined()
      }),
    )
  })

  it('returns a complete and valid token set of a changed copy, or undefined', () => {
    fc.assert(
      fc.property(mutated, (copy) => {
        const read = copies.read(copy)
        if (read === undefined) return
        expect(isTokenSet(read)).toBe(true)
        expect(contentOf(copy)).toMatchObject(stored(read) as object)
      }),
      { numRuns: 2000 },
    )
  })

  it.each([
    ['another client', { audience: 'other https://idp.example' }],
    ['another authorization server', { audience: 'web https://other.example' }],
    ['an audience that begins as ours', { audience: 'web https://idp.example/more' }],
    ['an older version', { version: 0 }],
    ['a newer version', { version: 3 }],
    ['the version of copies with a proof, without a proof', { version: 2 }],
    ['a version in text', { version: '1' }],
    ['no grant', { grantId: undefined }],
    ['an empty grant', { grantId: '' }],
    ['a grant that is no text', { grantId: 7 }],
    ['revision 0', { revision: 0 }],
    ['a negative revision', { revision: -1 }],
    ['half a revision', { revision: 1.5 }],
    ['a revision too large to count on', { revision: 2 ** 53 }],
    ['a revision in text', { revision: '1' }],
    ['an empty refresh token', { refreshToken: '' }],
    ['a refresh token that is no text', { refreshToken: { toString: 'x' } }],
    ['a null refresh token', { refreshToken: null }],
    ['an ID token that is no text', { idToken: 7 }],
    ['no access tokens', { accessTokens: undefined }],
    ['access tokens that are no list', { accessTokens: { length: 0 } }],
    ['an access token that is null', { accessTokens: [null] }],
    ['an access token that is text', { accessTokens: ['token'] }],
  ])('rejects %s', (_, change) => {
    const tokens = { grantId: 'grant', revision: 1, refreshToken: 'refresh', accessTokens: [] }
    expect(copies.read(copies.write(tokens))).toEqual(tokens)
    expect(copies.read(JSON.stringify({ ...contentOf(copies.write(tokens)), ...change }))).toBeUndefined()
  })

  it.each([
    ['no token', { token: undefined }],
    ['an empty token', { token: '' }],
    ['a token that is no text', { token: 7 }],
    ['no type', { tokenType: undefined }],
    ['a scope that is no text', { scope: ['a'] }],
    ['a requested scope that is no text', { requestedScope: 7 }],
    ['a resource that is no text', { resource: null }],
    ['an audience that is no text', { audience: 7 }],
    ['no time of receipt', { obtainedAt: undefined }],
    ['an expiry in text', { expiresAt: '1' }],
    ['no expiry, as JSON has it for infinity', { expiresAt: null }],
  ])('rejects an access token with %s', (_, change) => {
    const token = { token: 'access', tokenType: 'Bearer', obtainedAt: 1, expiresAt: 2 }
    const writer = new TokenSetCodec('web https://idp.example')
    const write = (accessTokens: object[]) =>
      writer.write({ grantId: 'grant', revision: 1, accessTokens } as unknown as TokenSet)
    expect(copies.read(write([token]))?.accessTokens).toEqual([token])
    expect(copies.read(write([token, { ...token, ...change }]))).toBeUndefined()
  })

  it('adds nothing that the copy does not hold', () => {
    const more = {
      ...contentOf(copies.write({ grantId: 'grant', revision: 1, accessTokens: [] })),
      admin: true,
    }
    expect(copies.read(JSON.stringify(more))).toEqual({ grantId: 'grant', revision: 1, accessTokens: [] })
  })
})

describe('codec.read(text)', () => {
  it('returns undefined for any other text, and never throws', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        expect(copies.read(text)).toBeUndefined()
      }),
    )
  })

  it('returns undefined for a part of a copy', () => {
    fc.assert(
      fc.property(tokenSet, fc.nat(), (tokens, length) => {
        const text = copies.write(tokens)
        expect(copies.read(text.slice(0, length % text.length))).toBeUndefined()
      }),
    )
  })
})

describe('newest(tokens, other)', () => {
  it('never returns the tokens of another grant, however new', () => {
    fc.assert(
      fc.property(tokenSet, tokenSet, (tokens, other) => {
        fc.pre(tokens.grantId !== other.grantId)
        expect(newest(tokens, other)).toBe(tokens)
      }),
    )
  })
})

describe('a session whose copy this library has not written', () => {
  let server: AuthorizationServer
  const running: Site[] = []

  beforeAll(async () => {
    server = await startAuthorizationServer()
  })
  afterEach(async () => {
    await Promise.all(running.splice(0).map((site) => site.close()))
  })
  afterAll(() => server.close())

  async function start(options?: Parameters<typeof startSite>[1]): Promise<Site> {
    const site = await startSite(server, options)
    running.push(site)
    return site
  }

  /** A request finds the value where its session had the copy. */
  async function withCopy(site: Site, tab: ReturnType<Site['browser']>, copy: unknown): Promise<void> {
    const sid = sessionIdOf(tab.cookie('connect.sid'))
    const data = (await readSession(site.store.store, sid))!
    const { sessions } = site.store.store as unknown as { sessions: Record<string, string> }
    sessions[sid] = JSON.stringify({ ...data, tokens: copy })
  }

  const loggedOut = { status: 401, json: { code: 'ERR_NO_TOKENS' } }

  it('is logged out, for any JSON value: 401, never 500', async () => {
    const site = await start()
    const tab = site.browser()
    await site.login(tab)
    await fc.assert(
      fc.asyncProperty(fc.jsonValue(), async (value) => {
        await withCopy(site, tab, value)
        expect(await tab.get('/token')).toMatchObject(loggedOut)
      }),
    )
  }, 60_000)

  it('responds with 200 or 401 when a copy was changed, never with 500', async () => {
    const site = await start()
    const tab = site.browser()
    await site.login(tab)
    const copy = (await site.storedTokens(tab))!
    const change = fc.array(fc.tuple(fc.nat(), fc.option(fc.jsonValue(), { nil: undefined })), {
      minLength: 1,
    })
    const statuses = new Set<number>()
    await fc.assert(
      fc.asyncProperty(change, async (changes) => {
        const proof = randomProof()
        let value = { ...copy, proof, grantId: grantIdOf(proof) } as unknown
        for (const [place, by] of changes) {
          const paths = pathsIn(value)
          value = stored(replacedAt(value, paths[place % paths.length]!, by) ?? null)
        }
        await withCopy(site, tab, JSON.stringify(value))
        const { status } = await tab.get('/token')
        statuses.add(status)
        // A version that is made larger is that of a later version.
        expect([200, 401, 503]).toContain(status)
      }),
      { numRuns: 200, examples: [[[]]] },
    )
    expect([...statuses]).toEqual(expect.arrayContaining([200, 401]))
  }, 60_000)

  it.each([
    ['of another client', { audience: 'other' }],
    ['of no version', { version: 'none' }],
    ['that was cut off', { accessTokens: undefined }],
  ])('is logged out if it is one %s, and can log in again', async (_, change) => {
    const site = await start()
    const tab = site.browser()
    await site.login(tab)
    await withCopy(site, tab, JSON.stringify({ ...(await site.storedTokens(tab)), ...change }))
    expect(await tab.get('/token')).toMatchObject(loggedOut)
    expect(await tab.post('/logout')).toMatchObject({ status: 200 })
    expect(await site.storedTokens(tab)).toBeUndefined()
    await site.login(tab)
    expect(await tab.get('/token')).toMatchObject({ status: 200 })
  })

  it("does not serve a copy that another client's process wrote into the same sessions", async () => {
    const open = sharedSessions()
    const one = await start({ store: open() })
    const { clientId } = server.clients.client_secret_post
    const other = await start({ store: open(), tokens: { clientId } })
    const tab = one.browser()
    await one.login(tab)
    expect(await other.visitorOf(tab).get('/token')).toMatchObject(loggedOut)
    expect(await tab.get('/token')).toMatchObject({ status: 200 })
  })
})

it.each([
  ['sealed', seal([KEY], AUDIENCE)],
  ['not sealed', undefined],
])('S65 a record that was moved to another grant in the grant store is not read, %s', (_, key) => {
  const codec = new TokenSetCodec(AUDIENCE, key)
  const [mine, theirs] = ['mine', 'theirs'].map(
    (proof): TokenSet => ({ grantId: grantIdOf(proof), proof, revision: 2, accessTokens: [] }),
  )
  expect(codec.readRecord(theirs!, codec.record(theirs!))).toEqual(theirs)
  expect(codec.readRecord(mine!, codec.record(theirs!))).toBeUndefined()
  // A process that knows the grant by its id alone, as for end({ grantId }).
  expect(codec.readRecord({ grantId: mine!.grantId }, codec.record(theirs!))).toBeUndefined()
})

it.each([
  ['sealed', seal([KEY], AUDIENCE)],
  ['not sealed', undefined],
])(
  'S65 a record out of the grant store is no session copy, so that a reader of the store gets no session by it, %s',
  (_, key) => {
    const codec = new TokenSetCodec(AUDIENCE, key)
    const proof = randomProof()
    const tokens: TokenSet = {
      grantId: grantIdOf(proof),
      proof,
      share: 'share',
      revision: 2,
      accessTokens: [],
    }
    expect(codec.read(codec.write(tokens))).toEqual(tokens)
    expect(codec.read(codec.record(tokens))).toBeUndefined()
    expect(codec.ignored(codec.record(tokens))).toEqual({ reason: 'malformed', grantId: tokens.grantId })
  },
)

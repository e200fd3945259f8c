import { describe, expect, it } from '@jest/globals'
import { ownProperties } from '../../lib/options/own-properties.js'
import { TokenSetCodec } from '../../lib/sessions/codec/token-set-codec.js'
import {
  type AccessToken,
  needKey,
  scopesOf,
  unexpiredToken,
  usableToken,
} from '../../lib/tokens/access-token.js'
import { isLoginOver } from '../../lib/tokens/login-lifetime.js'
import type { TokenNeed } from '../../lib/tokens/token-need.js'
import { firstTokenSet, mergeTokens, type TokenResponse } from '../../lib/tokens/token-response.js'
import {
  deadTokenSet,
  newest,
  secretsOf,
  type TokenSet,
  withAccessTokenOf,
  withoutRefreshToken,
} from '../../lib/tokens/token-set.js'

const NOW = 1_700_000_000_000
const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const DEFAULT_LIFETIME = 5 * MINUTE
/** Of a token that nothing could replace. */
const TEN_YEARS = 10 * 365 * 24 * 60 * MINUTE

/** An access token obtained now that lives for an hour. */
function accessToken(fields: Partial<AccessToken> = {}): AccessToken {
  return { token: 'token', tokenType: 'Bearer', obtainedAt: NOW, expiresAt: NOW + HOUR, ...fields }
}

function living(lifetimeMs: number): AccessToken {
  return accessToken({ expiresAt: NOW + lifetimeMs })
}

function tokenSet(...accessTokens: AccessToken[]): TokenSet {
  return { grantId: 'grant', revision: 7, refreshToken: 'refresh', idToken: 'id', accessTokens }
}

function merged(
  tokens: TokenSet,
  answer: Partial<TokenResponse> = {},
  need: TokenNeed = {},
  now = NOW,
): TokenSet {
  return mergeTokens(
    tokens,
    { accessToken: 'new', lifetimeMs: HOUR, ...answer } as TokenResponse & { accessToken: string },
    need,
    now,
    DEFAULT_LIFETIME,
  )
}

function usable(
  tokens: TokenSet,
  need: TokenNeed = {},
  now = NOW,
  leewayMs = MINUTE,
): AccessToken | undefined {
  return usableToken(tokens, need, now, { ms: leewayMs, part: 1 / 4 })
}

describe('usableToken(tokens, need, now, margin)', () => {
  interface Boundary {
    name: string
    lifetimeMs: number
    leewayMs: number
    minValidityMs?: number
    /** The age in milliseconds at which the token is not usable any more. */
    usableFor: number
  }

  it.each<Boundary>([
    { name: 'the leeway before the expiry', lifetimeMs: HOUR, leewayMs: MINUTE, usableFor: HOUR - MINUTE },
    { name: 'the expiry itself without a leeway', lifetimeMs: HOUR, leewayMs: 0, usableFor: HOUR },
    { name: 'a leeway of one millisecond', lifetimeMs: HOUR, leewayMs: 1, usableFor: HOUR - 1 },
    {
      name: 'a leeway of exactly a quarter of the lifetime',
      lifetimeMs: 4 * MINUTE,
      leewayMs: MINUTE,
      usableFor: 3 * MINUTE,
    },
    {
      name: 'a leeway just above a quarter of the lifetime',
      lifetimeMs: 4 * MINUTE - 4,
      leewayMs: MINUTE,
      usableFor: 3 * MINUTE - 3,
    },
    {
      name: 'a leeway as long as the lifetime',
      lifetimeMs: MINUTE,
      leewayMs: MINUTE,
      usableFor: 45 * SECOND,
    },
    { name: 'a leeway beyond the lifetime', lifetimeMs: MINUTE, leewayMs: HOUR, usableFor: 45 * SECOND },
    { name: 'a lifetime of one second', lifetimeMs: SECOND, leewayMs: MINUTE, usableFor: 750 },
    {
      name: 'a minValidityMs below the leeway',
      lifetimeMs: HOUR,
      leewayMs: MINUTE,
      minValidityMs: SECOND,
      usableFor: HOUR - MINUTE,
    },
    {
      name: 'a minValidityMs above the leeway',
      lifetimeMs: HOUR,
      leewayMs: MINUTE,
      minValidityMs: 10 * MINUTE,
      usableFor: HOUR - 10 * MINUTE,
    },
    {
      name: 'a minValidityMs of zero',
      lifetimeMs: HOUR,
      leewayMs: MINUTE,
      minValidityMs: 0,
      usableFor: HOUR - MINUTE,
    },
    {
      name: 'a negative minValidityMs',
      lifetimeMs: HOUR,
      leewayMs: 0,
      minValidityMs: -HOUR,
      usableFor: HOUR,
    },
    {
      name: 'a minValidityMs of exactly nine tenths of the lifetime',
      lifetimeMs: 10 * MINUTE,
      leewayMs: MINUTE,
      minValidityMs: 9 * MINUTE,
      usableFor: MINUTE,
    },
    {
      name: 'a minValidityMs beyond the lifetime',
      lifetimeMs: 10 * MINUTE,
      leewayMs: MINUTE,
      minValidityMs: HOUR,
      usableFor: MINUTE,
    },
  ])('ends at $name, to the millisecond', ({ lifetimeMs, leewayMs, minValidityMs, usableFor }) => {
    const tokens = tokenSet(living(lifetimeMs))
    const need = minValidityMs === undefined ? {} : { minValidityMs }
    expect(usable(tokens, need, NOW, leewayMs)).toBe(tokens.accessTokens[0])
    expect(usable(tokens, need, NOW + usableFor - 1, leewayMs)).toBe(tokens.accessTokens[0])
    expect(usable(tokens, need, NOW + usableFor, leewayMs)).toBeUndefined()
  })

  it.each([
    ['lives for no time', 0],
    ['expired before it was obtained', -1],
    ['expired long before it was obtained', -HOUR],
  ])('is undefined for a token that %s', (_, lifetimeMs) => {
    const tokens = tokenSet(living(lifetimeMs))
    expect(usable(tokens)).toBeUndefined()
    expect(usable(tokens, { minValidityMs: 0 }, NOW, 0)).toBeUndefined()
  })

  it('accepts a token from a clock that is a minute ahead, but not from further in the future', () => {
    const tokens = tokenSet(accessToken())
    expect(usable(tokens, {}, NOW - MINUTE)).toBe(tokens.accessTokens[0])
    expect(usable(tokens, {}, NOW - MINUTE - 1)).toBeUndefined()
  })

  it('never is the rejected token, and is another one that serves the need', () => {
    const narrow = accessToken({ token: 'narrow', requestedScope: 'a', scope: 'a' })
    const wide = accessToken({ token: 'wide', scope: 'a b' })
    const tokens = tokenSet(narrow, wide)
    expect(usable(tokens, { scope: 'a', rejected: 'narrow' })).toBe(wide)
    expect(usable(tokens, { scope: 'a', rejected: 'wide' })).toBe(narrow)
    expect(usable(tokens, { rejected: 'wide' })).toBeUndefined()
  })

  interface Covering {
    name: string
    held: Partial<AccessToken>
    need: TokenNeed
    serves: boolean
  }

  const A = 'https://api-a.example'
  const B = 'https://api-b.example'

  it.each<Covering>([
    { name: 'the empty need, by the token of the login', held: { scope: 'a b' }, need: {}, serves: true },
    {
      name: 'the empty need, by a token for some scope',
      held: { requestedScope: 'a', scope: 'a' },
      need: {},
      serves: false,
    },
    {
      name: 'the empty scope, which is the empty need',
      held: { scope: 'a' },
      need: { scope: '' },
      serves: true,
    },
    { name: 'one of the scopes granted', held: { scope: 'a b' }, need: { scope: 'b' }, serves: true },
    { name: 'all of the scopes granted', held: { scope: 'a b' }, need: { scope: 'b a' }, serves: true },
    { name: 'a scope that was not granted', held: { scope: 'a b' }, need: { scope: 'c' }, serves: false },
    {
      name: 'more scopes than were granted',
      held: { scope: 'a b' },
      need: { scope: 'a b c' },
      serves: false,
    },
    {
      name: 'a scope that is the beginning of another',
      held: { scope: 'orders.read' },
      need: { scope: 'orders' },
      serves: false,
    },
    { name: 'a scope by a token of unknown scope', held: {}, need: { scope: 'a' }, serves: false },
    {
      name: 'the requested scope, even if less was granted',
      held: { requestedScope: 'a b', scope: 'a' },
      need: { scope: 'b a' },
      serves: true,
    },
    { name: 'a resource by its token', held: { resource: A }, need: { resource: A }, serves: true },
    { name: 'a resource by another one', held: { resource: A }, need: { resource: B }, serves: false },
    { name: 'a resource by the token of the login', held: {}, need: { resource: A }, serves: false },
    { name: 'the empty need by a resource token', held: { resource: A }, need: {}, serves: false },
    { name: 'an audience by its token', held: { audience: 'a' }, need: { audience: 'a' }, serves: true },
    { name: 'an audience by another one', held: { audience: 'a' }, need: { audience: 'b' }, serves: false },
    {
      name: 'an audience by a resource of that name',
      held: { resource: A },
      need: { audience: A },
      serves: false,
    },
    {
      name: 'a scope for an audience by a token for none',
      held: { scope: 'a b' },
      need: { audience: 'x', scope: 'a' },
      serves: false,
    },
    {
      name: 'a scope without an audience by a token for one',
      held: { audience: 'x', scope: 'a b' },
      need: { scope: 'a' },
      serves: false,
    },
    {
      name: 'a scope at a resource by a wider token for it',
      held: { resource: A, scope: 'a b' },
      need: { resource: A, scope: 'a' },
      serves: true,
    },
    {
      name: 'a scope at a resource by a token for another one',
      held: { resource: A, scope: 'a b' },
      need: { resource: B, scope: 'a' },
      serves: false,
    },
    {
      name: 'a scope without a resource by a resource token',
      held: { resource: A, scope: 'a b' },
      need: { scope: 'a' },
      serves: false,
    },
  ])('serves ($serves) $name', ({ held, need, serves }) => {
    const tokens = tokenSet(accessToken(held))
    expect(usable(tokens, need)).toBe(serves ? tokens.accessTokens[0] : undefined)
  })

  it('prefers the token that was requested by this very need over a wider one', () => {
    const wide = accessToken({ token: 'wide', scope: 'a b' })
    const exact = accessToken({ token: 'exact', requestedScope: 'b a', scope: 'a' })
    expect(usable(tokenSet(wide, exact), { scope: 'a b' })).toBe(exact)
    expect(usable(tokenSet(exact, wide), {})).toBe(wide)
  })

  it('is a wider token when the exact one has expired', () => {
    const wide = accessToken({ token: 'wide', scope: 'a b' })
    const exact = accessToken({ token: 'exact', requestedScope: 'a', scope: 'a', expiresAt: NOW })
    expect(usable(tokenSet(exact, wide), { scope: 'a' })).toBe(wide)
  })
})

describe('unexpiredToken(tokens, need, now)', () => {
  it('knows no leeway and ends at the expiry, to the millisecond', () => {
    const tokens = tokenSet(accessToken())
    expect(unexpiredToken(tokens, {}, NOW + HOUR - 1)).toBe(tokens.accessTokens[0])
    expect(unexpiredToken(tokens, {}, NOW + HOUR)).toBeUndefined()
  })

  it('honours no minValidityMs, as there is nothing better, but never is the rejected token', () => {
    const tokens = tokenSet(accessToken())
    expect(unexpiredToken(tokens, { minValidityMs: 2 * HOUR }, NOW)).toBe(tokens.accessTokens[0])
    expect(unexpiredToken(tokens, { rejected: 'token' }, NOW)).toBeUndefined()
  })
})

describe('needKey(need)', () => {
  it.each<[name: string, one: TokenNeed, other: TokenNeed, equal: boolean]>([
    ['the order of scopes', { scope: 'a b' }, { scope: 'b a' }, true],
    ['a scope named twice', { scope: 'a' }, { scope: 'a a' }, true],
    ['additional spaces', { scope: ' a  b ' }, { scope: 'a b' }, true],
    ['an empty scope and no scope', { scope: '' }, {}, true],
    ['how long the token must be valid', { scope: 'a', minValidityMs: 5 }, { scope: 'a' }, true],
    ['the rejected token', { rejected: 'token' }, {}, true],
    ['another scope', { scope: 'a' }, { scope: 'b' }, false],
    ['one scope more', { scope: 'a' }, { scope: 'a b' }, false],
    ['scopes that differ in case', { scope: 'a' }, { scope: 'A' }, false],
    ['a resource', { resource: 'https://a.example' }, {}, false],
    ['another resource', { resource: 'https://a.example' }, { resource: 'https://b.example' }, false],
    ['a scope that looks like a resource', { scope: 'x' }, { resource: 'x' }, false],
    ['an audience', { audience: 'x' }, { audience: 'x' }, true],
    ['another audience', { audience: 'x' }, { audience: 'y' }, false],
    ['an audience that looks like a resource', { audience: 'x' }, { resource: 'x' }, false],
    ['scope and resource that could be mixed up', { scope: 'a","b' }, { scope: 'a', resource: 'b' }, false],
  ])('of two needs that differ in %s (%j, %j) is equal: %s', (_, one, other, equal) => {
    expect(needKey(one) === needKey(other)).toBe(equal)
  })
})

describe('scopesOf(scope)', () => {
  it.each<[scope: string | undefined, scopes: string[]]>([
    [undefined, []],
    ['', []],
    [' ', []],
    ['a', ['a']],
    [' a  b a ', ['a', 'b']],
  ])('of %j are %j', (scope, scopes) => {
    expect([...scopesOf(scope)]).toEqual(scopes)
  })
})

describe('firstTokenSet(grantId, response, now, defaultLifetimeMs)', () => {
  it('holds the tokens of the login, at revision 1', () => {
    const answer = {
      accessToken: 'at',
      tokenType: 'DPoP',
      lifetimeMs: HOUR,
      refreshToken: 'rt',
      idToken: 'id',
      scope: 'a b',
    }
    expect(firstTokenSet('grant', answer, NOW, DEFAULT_LIFETIME)).toEqual({
      grantId: 'grant',
      revision: 1,
      refreshToken: 'rt',
      idToken: 'id',
      loggedInAt: NOW,
      accessTokens: [
        { token: 'at', tokenType: 'DPoP', scope: 'a b', obtainedAt: NOW, expiresAt: NOW + HOUR },
      ],
    })
  })

  it('has no property for a token that the login did not bring', () => {
    expect(firstTokenSet('grant', { accessToken: 'at' }, NOW, DEFAULT_LIFETIME)).toStrictEqual(
      ownProperties({
        grantId: 'grant',
        revision: 1,
        accessTokens: [
          ownProperties({ token: 'at', tokenType: 'Bearer', obtainedAt: NOW, expiresAt: NOW + TEN_YEARS }),
        ],
        loggedInAt: NOW,
      }),
    )
    expect(firstTokenSet('grant', { refreshToken: 'rt' }, NOW, DEFAULT_LIFETIME)).toStrictEqual(
      ownProperties({ grantId: 'grant', revision: 1, refreshToken: 'rt', accessTokens: [], loggedInAt: NOW }),
    )
  })
})

describe('isLoginOver(tokens, now, maxLoginAgeMs)', () => {
  it.each<[string, Partial<TokenSet>, number, number | undefined, boolean]>([
    ['no limit', {}, NOW + TEN_YEARS, undefined, false],
    ['right before the end of the session', { sessionExpiresAt: NOW }, NOW - 1, undefined, false],
    ['at the end of the session', { sessionExpiresAt: NOW }, NOW, undefined, true],
    ['right before the greatest age', { loggedInAt: NOW }, NOW + HOUR - 1, HOUR, false],
    ['at the greatest age', { loggedInAt: NOW }, NOW + HOUR, HOUR, true],
    ['without a time of the login, by the oldest token', {}, NOW + HOUR, HOUR, true],
    [
      'the end of the session comes first',
      { loggedInAt: NOW, sessionExpiresAt: NOW + 1 },
      NOW + 1,
      HOUR,
      true,
    ],
  ])('%s', (_, times, now, maxLoginAgeMs, expected) => {
    expect(isLoginOver({ ...tokenSet(accessToken()), ...times }, now, maxLoginAgeMs)).toBe(expected)
  })
})

describe('mergeTokens(tokens, response, need, now, defaultLifetimeMs)', () => {
  it('keeps the refresh token, the ID token and the scope that the response omits', () => {
    const fresh = { token: 'new', tokenType: 'Bearer', scope: 'a b', obtainedAt: NOW, expiresAt: NOW + HOUR }
    expect(merged(tokenSet(accessToken({ scope: 'a b' })))).toStrictEqual(
      ownProperties({
        grantId: 'grant',
        revision: 8,
        refreshToken: 'refresh',
        idToken: 'id',
        accessTokens: [ownProperties(fresh)],
        loggedInAt: NOW,
      }),
    )
  })

  it.each<[string, Partial<TokenResponse>, number | undefined]>([
    ['a response without a refresh token and its expiry keeps it', {}, NOW + HOUR],
    ['a new refresh token without an expiry has none', { refreshToken: 'next' }, undefined],
    ['a new one has its own', { refreshToken: 'next', refreshLifetimeMs: MINUTE }, NOW + MINUTE],
    [
      'a new one that does not expire has none',
      { refreshToken: 'next', refreshLifetimeMs: Infinity },
      undefined,
    ],
    ['the expiry may change without a new one', { refreshLifetimeMs: MINUTE }, NOW + MINUTE],
  ])('the expiry of the refresh token: %s', (_, answer, expected) => {
    const tokens = { ...tokenSet(accessToken()), refreshExpiresAt: NOW + HOUR }
    expect(merged(tokens, answer).refreshExpiresAt).toBe(expected)
  })

  it('keeps the end of the session and the time of the login, and takes a new end', () => {
    const tokens = { ...tokenSet(accessToken()), sessionExpiresAt: NOW + HOUR, loggedInAt: NOW - HOUR }
    expect(merged(tokens)).toMatchObject({ sessionExpiresAt: NOW + HOUR, loggedInAt: NOW - HOUR })
    expect(merged(tokens, { sessionExpiresAt: NOW + 1 }).sessionExpiresAt).toBe(NOW + 1)
  })

  it('uses the refresh token, the ID token and the scope of the response', () => {
    const answer = { refreshToken: 'next', idToken: 'next-id', scope: 'a', tokenType: 'DPoP' }
    expect(merged(tokenSet(accessToken({ scope: 'a b' })), answer)).toMatchObject({
      revision: 8,
      refreshToken: 'next',
      idToken: 'next-id',
      accessTokens: [{ token: 'new', tokenType: 'DPoP', scope: 'a' }],
    })
  })

  it('does not change the token set that it was given', () => {
    const tokens = tokenSet(accessToken({ scope: 'a' }), accessToken({ token: 'b', requestedScope: 'b' }))
    const before = structuredClone(tokens)
    merged(tokens, { refreshToken: 'next' }, { scope: 'b' })
    expect(tokens).toEqual(before)
  })

  it.each<[name: string, lifetimeMs: number | undefined, expected: number]>([
    ['the lifetime in the response', 90 * SECOND, 90 * SECOND],
    ['one millisecond, if the response says so', 1, 1],
    ['the default if the response has no lifetime', undefined, DEFAULT_LIFETIME],
    ['the default if the response has a lifetime of zero', 0, DEFAULT_LIFETIME],
    ['the default if the response has a negative lifetime', -SECOND, DEFAULT_LIFETIME],
  ])('makes the token live for %s', (_, lifetimeMs, expected) => {
    const { lifetimeMs: __, ...answer } = { accessToken: 'new', lifetimeMs }
    const tokens = mergeTokens(
      tokenSet(),
      lifetimeMs === undefined ? answer : { ...answer, lifetimeMs },
      {},
      NOW,
      DEFAULT_LIFETIME,
    )
    expect(tokens.accessTokens[0]).toMatchObject({ obtainedAt: NOW, expiresAt: NOW + expected })
  })

  it('replaces the token of the same need, in whatever order its scopes are', () => {
    const held = accessToken({ token: 'old', requestedScope: 'a b', scope: 'a b' })
    const { accessTokens } = merged(tokenSet(held), {}, { scope: 'b a' })
    expect(accessTokens.map(({ token, requestedScope }) => [token, requestedScope])).toEqual([['new', 'b a']])
  })

  it('assumes the requested scope if the response omits it (RFC 6749 §5.1)', () => {
    const { accessTokens } = merged(tokenSet(accessToken({ scope: 'a b' })), {}, { scope: 'b' })
    expect(accessTokens[0]).toMatchObject({ token: 'new', requestedScope: 'b', scope: 'b' })
  })

  it('keeps the tokens of other needs until they expire', () => {
    const alive = accessToken({ token: 'alive', resource: 'https://a.example', expiresAt: NOW + 1 })
    const expired = accessToken({ token: 'expired', resource: 'https://b.example', expiresAt: NOW })
    const { accessTokens } = merged(tokenSet(alive, expired), {}, { resource: 'https://c.example' })
    expect(accessTokens.map(({ token }) => token)).toEqual(['new', 'alive'])
    expect(accessTokens[0]).toMatchObject({ resource: 'https://c.example' })
  })

  it("keeps the login's own token past its expiry, as it has the scope that was granted", () => {
    const login = accessToken({ token: 'login', scope: 'a b', expiresAt: NOW - HOUR })
    const later = merged(merged(tokenSet(login), {}, { scope: 'a' }), { accessToken: 'newer' })
    expect(later.accessTokens[0]).toMatchObject({ token: 'newer', scope: 'a b' })
  })

  it('holds 16 access tokens at most, the newest ones', () => {
    let tokens = tokenSet()
    for (let n = 1; n <= 16; n++) tokens = merged(tokens, { accessToken: `at-${n}` }, { scope: `s${n}` })
    expect(tokens.accessTokens.map(({ token }) => token)).toEqual(
      Array.from({ length: 16 }, (_, n) => `at-${16 - n}`),
    )
    tokens = merged(tokens, { accessToken: 'at-17' }, { scope: 's17' })
    expect(tokens.accessTokens).toHaveLength(16)
    expect(usable(tokens, { scope: 's17' })?.token).toBe('at-17')
    expect(usable(tokens, { scope: 's2' })?.token).toBe('at-2')
    expect(usable(tokens, { scope: 's1' })).toBeUndefined()
  })
})

describe('newest(tokens, other)', () => {
  const tokens = tokenSet()
  it.each<[name: string, other: TokenSet | undefined, wins: boolean]>([
    ['a higher revision', { ...tokens, revision: 8 }, true],
    ['the same revision', { ...tokens, refreshToken: 'x' }, false],
    ['a lower revision', { ...tokens, revision: 6 }, false],
    ['a higher revision of another grant', { ...tokens, grantId: 'other', revision: 99 }, false],
    ['nothing', undefined, false],
  ])('compares with %s', (_, other, wins) => {
    expect(newest(tokens, other)).toBe(wins ? other : tokens)
  })

  it('of two sets of one revision returns the one with a refresh token, in either order', () => {
    const { refreshToken: _, ...dead } = tokens
    expect(newest(dead, tokens)).toBe(tokens)
    expect(newest(tokens, dead)).toBe(tokens)
    expect(newest(dead, { ...tokens, grantId: 'other' })).toBe(dead)
  })
})

describe('withoutRefreshToken(tokens)', () => {
  it('is newer, and keeps the valid access tokens', () => {
    const held = accessToken()
    expect(withoutRefreshToken(tokenSet(held))).toStrictEqual(
      ownProperties({ grantId: 'grant', revision: 8, idToken: 'id', accessTokens: [held] }),
    )
  })
})

describe('deadTokenSet(tokens)', () => {
  it('is newer, and holds nothing', () => {
    expect(deadTokenSet(tokenSet(accessToken()))).toStrictEqual(
      ownProperties({ grantId: 'grant', revision: 8, accessTokens: [] }),
    )
  })
})

describe('secretsOf(tokens)', () => {
  it('names every token there is', () => {
    expect(secretsOf(tokenSet(accessToken({ token: 'at-1' }), accessToken({ token: 'at-2' })))).toEqual([
      'refresh',
      'id',
      'at-1',
      'at-2',
    ])
    expect(secretsOf(deadTokenSet(tokenSet()))).toEqual([])
  })
})

describe('mergeTokens with an empty scope or resource', () => {
  it('treats it as absent, so that the set can be read again', () => {
    const tokens = { grantId: 'grant', revision: 1, accessTokens: [] }
    const merged = mergeTokens(tokens, { accessToken: 'token', scope: '' }, { scope: '', resource: '' }, 0, 1)
    const copies = new TokenSetCodec('web')
    expect(copies.read(copies.write(merged))).toEqual(merged)
  })
})

describe('withAccessTokenOf(tokens, other)', () => {
  const [own, exchanged] = [accessToken(), accessToken({ token: 'exchanged', exchange: 'billing' })]
  const key = (d: string) => ({ kty: 'EC', alg: 'ES256', crv: 'P-256', x: 'x', y: 'y', d })

  it('adds the first access token of the other set, and nothing else of it', () => {
    const theirs = { ...tokenSet(own), refreshToken: 'newer' }
    expect(withAccessTokenOf(theirs, tokenSet(exchanged, own))).toEqual({
      ...theirs,
      accessTokens: [exchanged, own],
    })
  })

  it('leaves out a token that is bound to another key', () => {
    const theirs = { ...tokenSet(own), dpopKey: key('theirs') }
    expect(withAccessTokenOf(theirs, { ...tokenSet(exchanged), dpopKey: key('ours') })).toBe(theirs)
    expect(withAccessTokenOf(tokenSet(own), { ...tokenSet(exchanged), dpopKey: key('ours') })).toEqual(
      tokenSet(own),
    )
  })

  it('keeps a dead token set dead', () => {
    const dead = deadTokenSet(tokenSet(own))
    expect(withAccessTokenOf(dead, tokenSet(exchanged))).toBe(dead)
  })
})

import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import { StepUpError, TokenError, type TokenErrorCode } from '../../lib/errors/token-error.js'
import {
  type Backoff,
  backoffAfter,
  isNeedRefusal,
  mayBeAboutNeed,
  nextReplacement,
  type Replacements,
} from '../../lib/grants/refresh-backoff.js'

const NOW = 1_000_000
const SECOND = 1_000
const MINUTE = 60 * SECOND

/** The lengths of the rests when the same fails over and over, each time as soon as the rest is over. */
function rests(error: TokenError, times: number): number[] {
  let now = NOW
  let rest: Backoff | undefined
  return Array.from({ length: times }, () => {
    rest = backoffAfter(error, rest, now)!
    const ms = rest.until - now
    now = rest.until
    return ms
  })
}

describe('backoffAfter(error, before, now)', () => {
  let random: ReturnType<typeof jest.spyOn>
  beforeEach(() => {
    random = jest.spyOn(Math, 'random').mockReturnValue(0)
  })
  afterEach(() => random.mockRestore())

  it.each<[TokenErrorCode, number[]]>([
    ['ERR_TOKEN_ENDPOINT_UNAVAILABLE', [1, 2, 4, 8, 10, 10]],
    ['ERR_INVALID_TOKEN_RESPONSE', [1, 2, 4, 8, 10, 10]],
    ['ERR_CLIENT_REJECTED', [1, 2, 4, 8, 16, 32, 60, 60]],
    ['ERR_TOKEN_ENDPOINT', [1, 2, 4, 8, 16, 32, 60, 60]],
    ['ERR_STEP_UP_REQUIRED', [60, 120, 240, 480, 900, 900]],
  ])('rests after %s for %j seconds', (code, seconds) => {
    expect(rests(new TokenError(code, ''), seconds.length)).toEqual(seconds.map((it) => it * SECOND))
  })

  it.each<TokenErrorCode>([
    'ERR_NO_TOKENS',
    'ERR_REAUTHENTICATION_REQUIRED',
    'ERR_GRANT_STORE',
    'ERR_SESSION_STORE',
    'ERR_HEADERS_SENT',
    'ERR_SESSION_TOO_LARGE',
  ])('does not rest after %s', (code) => {
    expect(backoffAfter(new TokenError(code, ''), undefined, NOW)).toBeUndefined()
  })

  it('is up to a quarter shorter by chance, and never longer', () => {
    random.mockReturnValue(0.999_999)
    const [first, ...others] = rests(new TokenError('ERR_CLIENT_REJECTED', ''), 8)
    expect(first).toBeCloseTo(750, 0)
    expect(others.at(-1)).toBeCloseTo(45_000, -1)
  })

  it('lasts as long as Retry-After requests', () => {
    const asked = new TokenError('ERR_TOKEN_ENDPOINT_UNAVAILABLE', '', { retryAfterMs: 90_000 })
    expect(rests(asked, 2)).toEqual([90_000, 90_000])
    const noTime = new TokenError('ERR_TOKEN_ENDPOINT_UNAVAILABLE', '', { retryAfterMs: 0 })
    expect(rests(noTime, 2)).toEqual([1_000, 2_000])
  })

  it.each([
    ['10 s after the rest', 10 * SECOND, 2 * SECOND],
    ['later', 10 * SECOND + 1, 1 * SECOND],
  ])('doubles when the next failure comes %s', (_, after, ms) => {
    const error = new TokenError('ERR_TOKEN_ENDPOINT_UNAVAILABLE', '')
    const first = backoffAfter(error, undefined, NOW)!
    const now = first.until + after
    expect(backoffAfter(error, first, now)!.until - now).toBe(ms)
  })

  it.each([
    ['the network', {}, true],
    ['503', { responseStatus: 503 }, true],
    ['429', { responseStatus: 429 }, false],
    ['invalid_grant of a request loop', { error: 'invalid_grant' }, false],
    ['503 with Retry-After', { responseStatus: 503, retryAfterMs: 5_000 }, true],
    ['429 with Retry-After', { responseStatus: 429, retryAfterMs: 5_000 }, false],
  ])('says whether the rest ends with an outage: %s', (_, details, ends) => {
    const error = new TokenError('ERR_TOKEN_ENDPOINT_UNAVAILABLE', '', details)
    expect(backoffAfter(error, undefined, NOW)!.endsWithOutage).toBe(ends)
  })
})

describe('backoffAfter(error, before, now, succeededAt)', () => {
  it.each([
    ['before the first failure', NOW - 1, true],
    ['since the first failure', NOW + 1, false],
    ['never', undefined, true],
  ])('fails again, and another grant has succeeded %s', (_, succeededAt, ends) => {
    const error = new TokenError('ERR_TOKEN_ENDPOINT_UNAVAILABLE', '', { responseStatus: 500 })
    const first = backoffAfter(error, undefined, NOW, succeededAt)!
    expect(first.endsWithOutage).toBe(true)
    expect(backoffAfter(error, first, NOW + 10, succeededAt)).toMatchObject({
      failures: 2,
      endsWithOutage: ends,
    })
  })
})

describe('mayBeAboutNeed(error)', () => {
  it.each<[TokenErrorCode, string | undefined, boolean]>([
    ['ERR_TOKEN_ENDPOINT', 'access_denied', true],
    ['ERR_INVALID_TOKEN_RESPONSE', undefined, true],
    ['ERR_CONFIGURATION', undefined, true],
    ['ERR_CLIENT_REJECTED', 'unauthorized_client', true],
    ['ERR_CLIENT_REJECTED', 'invalid_client', false],
    ['ERR_CLIENT_REJECTED', undefined, false],
    ['ERR_TOKEN_ENDPOINT_UNAVAILABLE', undefined, false],
  ])('%s, %s: %s', (code, error, isOfNeed) => {
    expect(mayBeAboutNeed(new TokenError(code, '', { error }))).toBe(isOfNeed)
  })
})

describe('isNeedRefusal(error)', () => {
  const stepUp = new StepUpError({}, { error: 'interaction_required' })
  it.each<[string, TokenError, boolean]>([
    ['a StepUpError', stepUp, true],
    [
      'a login that is required',
      new TokenError('ERR_REAUTHENTICATION_REQUIRED', '', { cause: stepUp }),
      true,
    ],
    ['invalid_scope', new TokenError('ERR_INSUFFICIENT_SCOPE', '', { error: 'invalid_scope' }), true],
    ['a scope without a refresh token', new TokenError('ERR_INSUFFICIENT_SCOPE', ''), false],
    ['a dead grant', new TokenError('ERR_REAUTHENTICATION_REQUIRED', '', { error: 'invalid_grant' }), false],
    ['an outage', new TokenError('ERR_TOKEN_ENDPOINT_UNAVAILABLE', ''), false],
  ])('%s: %s', (_, error, isRefusal) => {
    expect(isNeedRefusal(error)).toBe(isRefusal)
  })
})

describe('nextReplacement(before, now)', () => {
  /** When tokens are replaced, in seconds, if an API refuses each one at every tenth of a second. */
  function replacedAt(seconds: number): number[] {
    let replacements: Replacements | undefined
    const times: number[] = []
    for (let tenth = 0; tenth <= seconds * 10; tenth++) {
      const next = nextReplacement(replacements, NOW + tenth * 100)
      if (!next) continue
      replacements = next
      times.push(tenth / 10)
    }
    return times
  }

  it('is at once three times, then after 1, 2, 4 … and 60 s', () => {
    expect(replacedAt(250)).toEqual([0, 0.1, 0.2, 1.2, 3.2, 7.2, 15.2, 31.2, 63.2, 123.2, 183.2, 243.2])
  })

  it('begins anew if no token was rejected for more than a minute', () => {
    let replacements: Replacements | undefined
    for (let call = 0; call < 3; call++) replacements = nextReplacement(replacements, NOW)
    expect(nextReplacement(replacements, NOW)).toBeUndefined()
    expect(nextReplacement(replacements, NOW + MINUTE)).toMatchObject({ count: 4 })
    expect(nextReplacement(replacements, NOW + MINUTE + 1)).toMatchObject({ count: 1 })
  })
})

import { describe, expect, it } from '@jest/globals'
import { StepUpError } from '../../lib/index.js'
import { readChallenge } from '../../lib/outbound/challenge.js'

const TOKEN = 'the-token-that-was-sent'
const challengeResult = (header: string, status = 401) => readChallenge(status, header, () => [TOKEN])

/** What a step-up error says, without what is the same in all of them. */
function stepUp(header: string): object {
  const error = challengeResult(header)
  expect(error).toBeInstanceOf(StepUpError)
  const { acrValues, maxAge, scope } = error as StepUpError
  return { acrValues, maxAge, scope }
}

describe('readChallenge(status, wwwAuthenticate, secrets)', () => {
  it.each([
    ['no header', ''],
    ['Bearer alone', 'Bearer'],
    ['Bearer without an error', 'Bearer realm="api", scope="orders.read"'],
    ['another scheme', 'Basic realm="api"'],
    ['another scheme with a token68', 'Negotiate YWJj=='],
    ['invalid_token', 'Bearer error="invalid_token"'],
    [
      'invalid_token, with more around it',
      'Bearer realm="a, b", error="invalid_token", error_description="x"',
    ],
    ['invalid_token, unquoted', 'Bearer error=invalid_token'],
    ['invalid_token, unquoted, with a comma behind it', 'Bearer error=invalid_token,realm="x"'],
    ['odd case', 'bEARER ERROR="Invalid_Token"'],
    ['spaces around the equals sign', 'Bearer realm = "x" ,\tError\t= "invalid_token"'],
    ['an escaped letter', 'Bearer error="invalid\\_token"'],
    ['no error in the quotes', 'Bearer error=""'],
    ['no error behind the equals sign', 'Bearer error=, realm="x"'],
    ['the error of Bearer, behind another challenge', 'Basic realm="x", Bearer error="invalid_token"'],
    [
      'the error of Bearer, with that of another scheme before it',
      'DPoP error="invalid_dpop_proof", Bearer error="invalid_token"',
    ],
    ['an error of another scheme, and none of Bearer', 'Bearer realm="x", DPoP error="use_dpop_nonce"'],
    ['a second challenge for Bearer that names it', 'Bearer realm="a", Bearer error="invalid_token"'],
    ['two errors: the first counts', 'Bearer error="invalid_token", error="insufficient_scope"'],
    [
      'a realm that quotes an error',
      'Bearer realm="x error=\\"insufficient_scope\\"", error="invalid_token"',
    ],
    ['a realm with the text of an error', 'Bearer realm="error=insufficient_scope"'],
    ['a realm with a challenge', 'Bearer realm=", Bearer error=insufficient_scope,"'],
    ['a realm that ends with a backslash', 'Bearer realm="C:\\\\", error="invalid_token"'],
    ['the error of another parameter', 'Bearer x_error="insufficient_scope", error_uri="error=other"'],
    ['an error without a scheme', 'error="invalid_token"'],
    ['empty elements of the list', ', ,, Bearer , , error="invalid_token",,'],
    ['a quotation that does not end', 'Bearer realm="x, error=insufficient_scope'],
    ['a quotation that ends with a backslash', 'Bearer realm="x, error=insufficient_scope\\'],
    ['a quotation that belongs to nothing', 'Bearer "error=insufficient_scope", realm="x"'],
    ['junk', '=,=;"\\'],
    ['a colon in place of the equals sign', 'Bearer error: insufficient_scope'],
  ])('wants another token: %s', (_, header) => {
    expect(challengeResult(header)).toBe('invalid_token')
  })

  it.each([
    ['insufficient_scope', 'Bearer error="insufficient_scope", scope="a"'],
    ['insufficient_scope, unquoted', 'Bearer error=insufficient_scope'],
    ['insufficient_scope, in odd case', 'bearer realm="x", Error = "Insufficient_Scope"'],
    ['invalid_request', 'Bearer error="invalid_request"'],
    ['a code that nobody knows', 'Bearer error="out_of_order"'],
    ['a code that begins like another', 'Bearer error="invalid_token2"'],
    ['a realm that says otherwise', 'Bearer realm="error=\\"invalid_token\\"", error="insufficient_scope"'],
    ['a realm without quotes', 'Bearer realm=my api, error="insufficient_scope"'],
    ['behind another challenge', 'Basic realm="x", Bearer error="insufficient_scope"'],
    ['before another challenge', 'Bearer error="insufficient_scope", Basic realm="x", error="invalid_token"'],
    ['another scheme alone', 'DPoP error="invalid_dpop_proof", algs="ES256"'],
    ['no scheme', 'error="insufficient_scope"'],
    ['an error in a quotation that does not end', 'Bearer error="insufficient_scope'],
  ])('passes it on: %s', (_, header) => {
    expect(challengeResult(header)).toBe('accepted')
  })

  it.each([200, 302, 400, 403, 407, 500])('passes a %i on, whatever its header says', (status) => {
    expect(challengeResult('Bearer error="invalid_token"', status)).toBe('accepted')
    expect(challengeResult('Bearer error="insufficient_user_authentication"', status)).toBe('accepted')
  })

  const nothing = { acrValues: undefined, maxAge: undefined, scope: undefined }
  const error = 'error="insufficient_user_authentication"'

  it.each<[string, string, object]>([
    ['nothing more', `Bearer ${error}`, nothing],
    ['unquoted', 'Bearer error=insufficient_user_authentication', nothing],
    ['odd case', 'BEARER Error="Insufficient_User_Authentication", MAX_AGE="5"', { ...nothing, maxAge: 5 }],
    ['acr_values', `Bearer ${error}, acr_values="mfa phr"`, { ...nothing, acrValues: 'mfa phr' }],
    ['max_age', `Bearer max_age="300", ${error}`, { ...nothing, maxAge: 300 }],
    ['max_age, unquoted', `Bearer ${error}, max_age=0`, { ...nothing, maxAge: 0 }],
    ['scope', `Bearer ${error}, scope="orders.write"`, { ...nothing, scope: 'orders.write' }],
    [
      'all of it',
      `Bearer realm="x", ${error}, acr_values="a", max_age=60, scope="b c"`,
      { acrValues: 'a', maxAge: 60, scope: 'b c' },
    ],
    ['nothing in the quotes', `Bearer ${error}, acr_values="", max_age="", scope=""`, nothing],
    [
      'escaped quotes',
      `Bearer ${error}, acr_values="urn:\\"a\\" \\\\"`,
      { ...nothing, acrValues: 'urn:"a" \\' },
    ],
    ['a max_age that is none', `Bearer ${error}, max_age="-1"`, nothing],
    ['a max_age in words', `Bearer ${error}, max_age="an hour"`, nothing],
    ['a max_age that no number holds', `Bearer ${error}, max_age="9999999999999999999"`, nothing],
    [
      'a second challenge that asks for something else',
      `Bearer ${error}, acr_values="a", Bearer ${error}, acr_values="b", max_age=1`,
      { ...nothing, acrValues: 'a' },
    ],
    [
      'parameters of other challenges',
      `Basic realm="x", acr_values="basic", Bearer ${error}, DPoP max_age="5", scope="dpop"`,
      nothing,
    ],
  ])('wants the user to log in again: %s', (_, header, expected) => {
    expect(stepUp(header)).toEqual(expected)
  })

  const json = '{"access_token":{"nbf":{"essential":true,"value":"1"},"é?>":null}}'
  const base64 = (text: string) => Buffer.from(text).toString('base64')
  const insufficient = 'error="insufficient_claims"'

  it.each<[string, string, string]>([
    ['in base64', `Bearer realm="", ${insufficient}, claims="${base64(json)}"`, json],
    [
      'in base64 without padding',
      `Bearer ${insufficient}, claims="${base64(json).replace(/=+$/, '')}"`,
      json,
    ],
    ['in base64url', `Bearer claims="${Buffer.from(json).toString('base64url')}", ${insufficient}`, json],
    ['with one letter of padding', `Bearer ${insufficient}, claims="${base64('{"a":"bc"}')}"`, '{"a":"bc"}'],
    ['with two letters of padding', `Bearer ${insufficient}, claims="${base64('{"a":"b"}')}"`, '{"a":"b"}'],
    ['without quotes', `Bearer error=insufficient_claims, claims=${base64(json)}`, json],
    ['as JSON', `Bearer ${insufficient}, claims="${json.replaceAll('"', '\\"')}"`, json],
    ['in odd case', `BEARER Error="Insufficient_Claims", CLAIMS="${base64(json)}"`, json],
    ['as long as may be', `Bearer ${insufficient}, claims="${base64(longest(0))}"`, longest(0)],
    ['with invalid_token', `Bearer error="invalid_token", claims="${base64(json)}"`, json],
    ['with RFC 9470', `Bearer ${error}, claims="${base64(json)}"`, json],
    [
      'of the first challenge for Bearer that names an error',
      `PoP claims="e30", Bearer ${insufficient}, claims="${base64(json)}", Bearer ${insufficient}, claims="e30"`,
      json,
    ],
    [
      'beside all else',
      `Bearer authorization_uri="https://login.example.com/authorize", client_id="x", errorDescription="a, b", ${insufficient}, claims="${base64(json)}"`,
      json,
    ],
  ])('wants the user to log in again, with claims: %s', (_, header, claims) => {
    const error = challengeResult(header)
    expect(error).toBeInstanceOf(StepUpError)
    expect((error as StepUpError).claims).toBe(claims)
  })

  /** JSON of the length that claims may have, and some letters more. */
  function longest(more: number): string {
    return `{"a":"${'x'.repeat(4096 - 8 + more)}"}`
  }

  it.each<[string, string | undefined]>([
    ['none', undefined],
    ['nothing in the quotes', ''],
    ['no JSON', base64('{"a"')],
    ['an array', base64('[1]')],
    ['null', base64('null')],
    ['a text', base64('"a"')],
    ['no base64', '!!!!'],
    ['base64 with junk in it', `${base64(json)}!`],
    ['base64 twice', base64(base64(json))],
    ['bytes that are no UTF-8', Buffer.from('7b2261223a22ff227d', 'hex').toString('base64')],
    ['too long', base64(longest(1))],
    ['far too long', base64(`{"a":"${'x'.repeat(20_000)}"}`)],
    ['JSON that is too long', longest(1).replaceAll('"', '\\"')],
    ['JSON that breaks off', '{\\"a\\":'],
  ])('claims that cannot be asked for: %s', (_, claims) => {
    const parameter = claims === undefined ? '' : `, claims="${claims}"`
    expect(challengeResult(`Bearer ${insufficient}${parameter}`)).toBe('accepted')
    expect(challengeResult(`Bearer error="invalid_token"${parameter}`)).toBe('invalid_token')
    const stepUp = challengeResult(`Bearer ${error}${parameter}`) as StepUpError
    expect(stepUp).toBeInstanceOf(StepUpError)
    expect(stepUp.claims).toBeUndefined()
  })

  it.each([200, 400, 403])('claims of a %d are passed on', (status) => {
    expect(challengeResult(`Bearer ${insufficient}, claims="${base64(json)}"`, status)).toBe('accepted')
  })

  it('claims with other errors are passed on', () => {
    expect(challengeResult(`Bearer error="insufficient_scope", claims="${base64(json)}"`)).toBe('accepted')
  })

  it('asks for the secrets only where there is an error to be made', () => {
    let asked = 0
    const counted = () => {
      asked++
      return [TOKEN]
    }
    for (const [status, header] of [
      [200, ''],
      [401, 'Bearer'],
      [401, `Bearer ${insufficient}`],
    ] as const) {
      readChallenge(status, header, counted)
    }
    expect(asked).toBe(0)
  })

  it('no token that the API echoes in claims', () => {
    const claims = base64(JSON.stringify({ access_token: { jti: { value: TOKEN } } }))
    expect((challengeResult(`Bearer ${insufficient}, claims="${claims}"`) as StepUpError).claims).toBe(
      '{"access_token":{"jti":{"value":"[redacted]"}}}',
    )
  })

  it('no token that the API echoes', () => {
    expect(stepUp(`Bearer ${error}, acr_values="a ${TOKEN} b", scope="${TOKEN}"`)).toEqual({
      ...nothing,
      acrValues: 'a [redacted] b',
      scope: '[redacted]',
    })
  })

  const KIB = 1024
  /** As long as Node takes headers, and as long as an app may have it take them. */
  const lengths = [16 * KIB, 1024 * KIB]

  it.each([
    'a',
    '=',
    '"',
    ' ',
    ',',
    '\\',
    'a ',
    'a=',
    'a="',
    'a="\\',
    '\\"',
    'a=b,',
    'a, ',
    'Bearer error="x", ',
    'a \t',
  ])('reads junk in linear time: %j for 16 KB, and for 1 MB', (junk) => {
    for (const length of lengths) {
      const long = junk.repeat(length / junk.length)
      for (const header of [long, `Bearer realm="${long}`, `Bearer x=${long}`]) {
        const before = process.cpuUsage()
        challengeResult(header)
        const { user, system } = process.cpuUsage(before)
        // Square time would be minutes.
        expect((user + system) / 1000).toBeLessThan(2000)
      }
    }
  })
})

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { describe, expect, it } from '@jest/globals'
import { ConfigurationError, TokenError, type TokenErrorCode } from '../../lib/index.js'
import { nodesOf, type SyntaxNode, syntaxOf } from '../package/syntax.js'

const SECRET = 'a secret + token/='

describe('new TokenError(code, message, details)', () => {
  it.each<[TokenErrorCode, number, boolean]>([
    ['ERR_CONFIGURATION', 500, false],
    ['ERR_NO_TOKENS', 401, false],
    ['ERR_REAUTHENTICATION_REQUIRED', 401, false],
    ['ERR_INSUFFICIENT_SCOPE', 403, false],
    ['ERR_CLIENT_REJECTED', 500, false],
    ['ERR_TOKEN_ENDPOINT', 502, false],
    ['ERR_TOKEN_ENDPOINT_UNAVAILABLE', 503, true],
    ['ERR_INVALID_TOKEN_RESPONSE', 502, false],
    ['ERR_GRANT_STORE', 503, true],
    ['ERR_SESSION_STORE', 503, true],
    ['ERR_ORIGIN_NOT_ALLOWED', 500, false],
  ])('%s: status %d, retryable %p', (code, status, retryable) => {
    const error = new TokenError(code, 'message')
    expect(error).toBeInstanceOf(Error)
    expect({ ...error }).toEqual({ name: 'TokenError', code, status, retryable, expose: false })
    expect(String(error)).toBe('TokenError: message')
    expect(error.stack).toContain('token-error.test')
    expect(error.statusCode).toBe(status)
  })

  it('keeps what is for the operator out of its message, and shows it in the stack', () => {
    const error = new TokenError('ERR_TOKEN_ENDPOINT', 'message', { details: 'https://idp.example.com' })
    expect(error).toMatchObject({ message: 'message', details: 'https://idp.example.com' })
    expect(String(error)).toBe('TokenError: message')
    expect(error.stack).toMatch(/^TokenError: message \(https:\/\/idp\.example\.com\)\n/)
    expect(inspect(error)).toContain('message (https://idp.example.com)')
  })

  it('holds the error of the server', () => {
    const details = { retryAfterMs: 0, error: 'invalid_scope', errorDescription: 'no such scope' }
    expect(new TokenError('ERR_TOKEN_ENDPOINT', 'message', details)).toMatchObject(details)
  })

  it('has no property for a missing detail', () => {
    const details = {
      retryAfterMs: undefined,
      error: undefined,
      errorDescription: undefined,
      details: undefined,
      cause: undefined,
    }
    const error = new TokenError('ERR_TOKEN_ENDPOINT', 'message', details)
    for (const name of Object.keys(details)) expect(error).not.toHaveProperty(name)
  })

  it('shows no secret in a text from outside, in any property', () => {
    const error = new TokenError('ERR_TOKEN_ENDPOINT', 'message', {
      secrets: ['', SECRET],
      error: SECRET,
      errorDescription: `described ${encodeURIComponent(SECRET)}`,
      cause: Object.assign(
        new Error(`cause ${new URLSearchParams({ SECRET })}`, { cause: new Error(SECRET) }),
        {
          code: `E_${SECRET}`,
          name: `Error ${SECRET}`,
          config: { headers: { authorization: SECRET } },
        },
      ),
    })
    const shown = [
      inspect(error, { depth: 20, showHidden: true }),
      JSON.stringify(error),
      String(error),
      error.stack,
    ]
    for (const text of shown) {
      expect(text).not.toContain('token/')
      expect(text).not.toContain('token%2F')
    }
    expect(error).toMatchObject({
      message: 'message',
      error: '[redacted]',
      errorDescription: 'described [redacted]',
    })
    expect(error.cause).toMatchObject({
      message: 'cause SECRET=[redacted]',
      code: 'E_[redacted]',
      name: 'Error [redacted]',
    })
  })

  it.each(['a', 'id', 'message'])('keeps its own text when that holds the secret %j by chance', (secret) => {
    const message = 'A message of the library, which holds no text from outside.'
    const error = new TokenError('ERR_TOKEN_ENDPOINT', message, {
      secrets: [secret],
      cause: new Error(`said ${secret}.`),
    })
    expect(error.message).toBe(message)
    expect(error.cause).toMatchObject({ message: expect.stringContaining('[redacted].') })
  })
})

describe('the cause', () => {
  const causeOf = (cause: unknown) => new TokenError('ERR_GRANT_STORE', 'message', { cause }).cause as Error

  it('keeps name, code and message of an error, and nothing else', () => {
    const cause = Object.assign(new TypeError('failed', { cause: 'more' }), { code: 'E_FAILED', rows: ['x'] })
    const kept = causeOf(cause)
    expect(kept).toBeInstanceOf(Error)
    expect({ ...kept, message: kept.message }).toEqual({
      name: 'TypeError',
      code: 'E_FAILED',
      message: 'failed',
    })
    expect(kept.cause).toBeUndefined()
    expect(kept.stack).toBe('TypeError: failed')
  })

  it.each<[string, unknown, string, string]>([
    ['text', 'failed', 'Error', 'failed'],
    ['a number', 5, 'Error', '5'],
    ['null', null, 'Error', 'null'],
    ['an object like an error', { name: 'Odd', message: 'failed', code: 5 }, 'Odd', 'failed'],
    ['an object without anything', {}, 'Error', ''],
  ])('may be %s', (_, cause, name, message) => {
    const kept = causeOf(cause)
    expect({ ...kept, message: kept.message }).toEqual({ name, message })
  })

  it('leaves out its message on request, as it may hold unknown secrets', () => {
    const cause = Object.assign(new TypeError('no room for {"tokens":"of another"}'), { code: 'E_ROOM' })
    const error = new TokenError('ERR_SESSION_STORE', 'message', { cause, causeMessage: false })
    expect(inspect(error, { depth: 20, showHidden: true })).not.toContain('another')
    expect(error.cause).toMatchObject({
      name: 'TypeError',
      code: 'E_ROOM',
      message: expect.stringMatching(/left out/),
    })
  })

  it('is kept as it is when it is a TokenError', () => {
    const cause = new ConfigurationError('wrong')
    expect(causeOf(cause)).toBe(cause)
  })
})

describe('new ConfigurationError(message)', () => {
  it('is a TokenError of its own name', () => {
    const error = new ConfigurationError('wrong')
    expect(error).toBeInstanceOf(TokenError)
    expect(error).toMatchObject({ name: 'ConfigurationError', code: 'ERR_CONFIGURATION', status: 500 })
  })
})

describe('the messages in lib/', () => {
  const lib = join(import.meta.dirname, '../../lib')
  const files = readdirSync(lib, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
  const ends = files.flatMap((file) =>
    [...nodesOf(syntaxOf(join(lib, file)))].flatMap((node) => endOfMessage(node)),
  )

  it('are found', () => {
    expect(ends.length).toBeGreaterThan(40)
  })

  it('end as sentences do', () => {
    expect(ends.filter((end) => !/[.?]$/.test(end))).toEqual([])
  })
})

/** How the message of a new error of ours ends, unless a variable decides it. */
function endOfMessage(node: SyntaxNode): string[] {
  if (node.type !== 'NewExpression') return []
  const position = { TokenError: 1, ConfigurationError: 0 }[(node.callee as { value?: string }).value ?? '']
  if (position === undefined) return []
  const [argument] = (node.arguments as { expression: SyntaxNode }[]).slice(position)
  const end = argument ? endOfText(argument.expression) : ''
  return end === '' ? [] : [end]
}

function endOfText(text: SyntaxNode): string {
  if (text.type === 'BinaryExpression') return endOfText(text.right as SyntaxNode)
  if (text.type === 'TemplateLiteral') return (text.quasis as { raw: string }[]).at(-1)?.raw ?? ''
  return text.type === 'StringLiteral' ? String(text.value) : ''
}

import { inspect } from 'node:util'
import { describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { redact } from '../../lib/errors/redact.js'

const SECRET = 'a secret + token/='
const QUOTED = 'a "quoted" \\ token/ä'
const RECORD = JSON.stringify({ refreshToken: QUOTED, expiresAt: 1 })

describe('redact(text, secrets)', () => {
  it.each<[string, string, string]>([
    ['as it is', `x ${SECRET} y ${SECRET}`, 'x [redacted] y [redacted]'],
    ['as a URL component', `x=${encodeURIComponent(SECRET)}`, 'x=[redacted]'],
    ['as a form', `${new URLSearchParams({ x: SECRET })}`, 'x=[redacted]'],
    ['with + for a space', `x ${SECRET.replaceAll(' ', '+')} y`, 'x [redacted] y'],
    ['in lower-case percent-encoding', 'x=a%20secret%20%2b%20token%2f%3d', 'x=[redacted]'],
    ['as a form in lower-case percent-encoding', 'x=a+secret+%2b+token%2f%3d&y', 'x=[redacted]&y'],
    ['that is not in the text', 'x', 'x'],
  ])('redacts a secret %s', (_, text, redacted) => {
    expect(redact(text, [SECRET])).toBe(redacted)
  })

  it.each<[string, string, string]>([
    ['as it is', `x ${QUOTED} y`, 'x [redacted] y'],
    ['in a JSON record', `no room for ${RECORD}`, 'no room for {"refreshToken":"[redacted]","expiresAt":1}'],
    [
      'in a JSON record within JSON',
      JSON.stringify({ record: RECORD }),
      JSON.stringify({ record: '{"refreshToken":"[redacted]","expiresAt":1}' }),
    ],
  ])('redacts a secret with quotes %s', (_, text, redacted) => {
    expect(redact(text, [QUOTED])).toBe(redacted)
  })

  it('redacts the whole of a secret that has another one in it', () => {
    expect(redact('x=a%2Bb%2Bc', ['%2Bb', 'a+b+c'])).toBe('x=[redacted]')
    expect(redact('x=a%2Bb%2Bc', ['a%2Bb', 'a+b+c'])).toBe('x=[redacted]')
  })

  it('ignores an empty secret, and accepts one that cannot be decoded', () => {
    expect(redact('text', ['', '\ud800'])).toBe('text')
  })

  it('redacts a secret with special characters of a pattern', () => {
    expect(redact('x $& (a+b)* y', ['$& (a+b)*'])).toBe('x [redacted] y')
  })

  const RT = 'secret-part<one>/two&part+"three"\\\'four ä'
  const html = (text: string) =>
    text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
  const json = (text: string) => JSON.stringify(text).slice(1, -1)
  const unicode = (text: string) =>
    text.replace(/[^\w -]/gu, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`)

  const escapes: [string, (text: string) => string][] = [
    ['for HTML', html],
    ['for HTML, with &#39;', (text) => html(text).replaceAll("'", '&#39;')],
    ['for HTML, with &#x27;', (text) => html(text).replaceAll("'", '&#x27;')],
    ['for HTML, with &#X2F;', (text) => html(text).replaceAll('/', '&#X2F;')],
    ['for HTML, with &apos;', (text) => html(text).replaceAll("'", '&apos;')],
    ['in JSON', json],
    ['in JSON, as PHP writes it', (text) => json(text).replaceAll('/', '\\/').replaceAll('ä', '\\u00e4')],
    ['in JSON, as .NET and Go write it', unicode],
    ['with backslashes', (text) => text.replace(/['"\\]/g, '\\$&')],
    ['by inspect()', (text) => inspect(text).slice(1, -1)],
    ['with \\x', (text) => text.replaceAll('<', '\\x3c').replaceAll('>', '\\x3E')],
    ['as a URL component', encodeURIComponent],
    ['as a form', (text) => new URLSearchParams([['', text]]).toString().slice(1)],
  ]

  it.each(escapes)('a secret that is escaped %s', (_, write) => {
    expect(redact(`no: ${write(RT)}!`, [RT])).toBe('no: [redacted]!')
  })

  it.each(
    escapes.flatMap(([one, first]) =>
      escapes.map(([two, then]) => [one, two, (text: string) => then(first(text))] as const),
    ),
  )('a secret that is escaped %s, and that %s', (_one, _two, write) => {
    expect(redact(`no: ${write(RT)}!`, [RT])).toBe('no: [redacted]!')
  })

  it('secrets of all letters, escaped twice in any way: nothing is left but a backslash at the end', () => {
    const letter = fc.oneof(
      fc.constantFrom(...'%25&amp;#;\\+"\'/nux0041 ä<'),
      fc.string({ minLength: 1, maxLength: 1 }),
    )
    const secrets = fc.array(letter, { minLength: 8, maxLength: 40 }).map((letters) => letters.join(''))
    const escaping = fc.constantFrom(...escapes.map(([, write]) => write))
    fc.assert(
      fc.property(secrets, escaping, escaping, (secret, first, then) => {
        fc.pre(secret.length > 5)
        const clean = redact(`no: ${then(first(secret))}!`, [secret])
        expect(clean).toMatch(/^no: \[redacted\](\\|u005c|x5c|%(25)*5c|25)*!$/i)
      }),
      { numRuns: 2000, seed: 1 },
    )
  })

  it('keeps a text without secrets as it is, with its escapes', () => {
    const text = 'a%2Bb &amp; "c\\n" +%zz \ud800 ä&#x110000;'
    expect(redact(text, ['secret'])).toBe(text)
  })

  it.each(['a', '%25', '\\', '&amp;', '&#0', '%41', '+', '\\"', 'secret', 'secre'])(
    '1 MB of %j is read before long',
    (part) => {
      const secrets = Array.from({ length: 12 }, (_, index) => `secret${'x'.repeat(index * 100)}`)
      const text = part.repeat(1_000_000 / part.length)
      const before = process.cpuUsage()
      redact(text, secrets)
      const { user, system } = process.cpuUsage(before)
      expect((user + system) / 1000).toBeLessThan(5_000)
    },
  )
})

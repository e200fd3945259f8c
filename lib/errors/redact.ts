import { getSystemErrorMap } from 'node:util'

/** The text in place of a secret. */
export const REDACTED = '[redacted]'
/** A JWT, a JWE, or the beginning of one. */
export const JWT = /\beyJ[\w-]+(?:\.[\w-]*){2,4}/g
/** The number of kinds of escapes that may be nested: JSON in JSON is one kind, JSON in a URL is two. */
const MAX_DEPTH = 3

/**
 * URL-encoding, HTML entities and backslash escapes, each applied any number of times: `%252F`, `&amp;#39;`, `\\\"`.
 */
const ESCAPES =
  /%(?:25)*([\da-f]{2})|&(?:amp;)*(?:#x([\da-f]{1,6})|#(\d{1,7})|(amp|apos|gt|lt|quot));|\\+(?:u([\da-f]{4})|x([\da-f]{2})|([\s\S]|$))/gi

const NAMED: Readonly<Record<string, string>> = { amp: '&', apos: "'", gt: '>', lt: '<', quot: '"' }
const CONTROLS: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' }

/** A text with its escapes decoded, as bytes: one letter for each byte. */
interface Reading {
  readonly letters: string
  /** The position of each letter in the original text, and the end of that text. */
  readonly begins: Uint32Array
}

/**
 * Replaces every occurrence of a secret by `[redacted]`, however it is escaped. Only texts from outside need this before they
 * go into a message: the library's messages hold no secret, but may hold the letters of a short one.
 *
 * The text and the secrets are decoded in the same way, so no list of escaped forms is needed.
 */
export function redact(text: string, secrets: readonly string[]): string {
  const sought = [
    ...new Set(secrets.flatMap((secret) => [bytesOf(secret), plain(bytesOf(secret))].map(folded))),
  ]
  const ranges = readingsOf(bytesOf(text)).flatMap(({ letters, begins }) => {
    const reading = { letters: folded(letters), begins }
    return sought.flatMap((secret) => occurrences(secret, reading))
  })
  return ranges.length === 0 ? text : without(ranges, bytesOf(text))
}

/** The names of errors that Node, axios and this library make, and the one code that this library makes. */
const LISTED = [
  ...['Error', 'TypeError', 'RangeError', 'SyntaxError', 'AggregateError', 'AbortError', 'TimeoutError'],
  ...['AxiosError', 'ERR_CONNECT_TIMEOUT'],
]

/**
 * Redacts the name or the code of an error. Names and codes in {@link LISTED} stay, such as `TypeError` and `ECONNREFUSED`, even
 * if a secret is the same text.
 */
export function redactCode(code: string, secrets: readonly string[]): string {
  const isListed = LISTED.includes(code) || [...getSystemErrorMap().values()].some(([name]) => name === code)
  return isListed ? code : redact(code, secrets)
}

/** Makes a text that a server sent safe for messages: without secrets and JWTs, printable, of limited length. */
export function safeExcerpt(text: string, secrets: readonly string[], maxLength: number): string {
  // Redacted before it is cut, because half a secret would not be recognised.
  const clean = redact(text, secrets)
    .replace(JWT, REDACTED)
    .replace(/[^\x20-\x7e]+/g, ' ')
    .trim()
  return clean.length > maxLength ? `${clean.slice(0, maxLength)}…` : clean
}

/** Decodes a text layer by layer. Returns the text and each result as bytes, one letter for each byte. */
export function unescaped(text: string): string[] {
  return readingsOf(bytesOf(text)).map(({ letters }) => letters)
}

/** Decodes a text layer by layer. Returns the text and each result. */
function readingsOf(bytes: string): Reading[] {
  const readings: Reading[] = [
    { letters: bytes, begins: Uint32Array.from({ length: bytes.length + 1 }, (_, at) => at) },
  ]
  while (readings.length <= MAX_DEPTH) {
    const last = readings.at(-1)!
    const next = read(last)
    if (next.letters === last.letters) break
    readings.push(next)
  }
  return readings
}

function plain(bytes: string): string {
  return readingsOf(bytes).at(-1)!.letters
}

/** Decodes one layer of escapes. */
function read({ letters, begins }: Reading): Reading {
  const parts: string[] = []
  const places = new Uint32Array(begins.length)
  let length = 0
  const add = (part: string, place: (index: number) => number) => {
    parts.push(part)
    for (let index = 0; index < part.length; index++) places[length++] = place(index)
  }
  let from = 0
  for (const match of letters.matchAll(ESCAPES)) {
    const start = from
    add(letters.slice(start, match.index), (index) => begins[start + index]!)
    add(meaningOf(match), () => begins[match.index]!)
    from = match.index + match[0].length
  }
  const start = from
  add(letters.slice(start), (index) => begins[start + index]!)
  places[length] = begins.at(-1)!
  return { letters: parts.join(''), begins: places.subarray(0, length + 1) }
}

/** Returns the bytes that an escape stands for: never more bytes than the escape has letters. */
function meaningOf([, octet, hex, decimal, name, unit, byte, letter = '']: RegExpExecArray): string {
  if (octet !== undefined) return String.fromCharCode(Number.parseInt(octet, 16))
  const codePoint = hex ?? unit ?? byte
  if (codePoint !== undefined) return character(Number.parseInt(codePoint, 16))
  if (decimal !== undefined) return character(Number(decimal))
  if (name !== undefined) return NAMED[name.toLowerCase()] ?? ''
  return CONTROLS[letter] ?? letter
}

function character(codePoint: number): string {
  return codePoint > 0x10ffff ? '' : bytesOf(String.fromCodePoint(codePoint))
}

/** Finds a secret in a decoded text. Returns its ranges in the original text. */
function occurrences(secret: string, { letters, begins }: Reading): [start: number, end: number][] {
  const found: [number, number][] = []
  if (secret === '') return found
  for (let at = letters.indexOf(secret); at !== -1; at = letters.indexOf(secret, at + secret.length)) {
    found.push([begins[at]!, begins[at + secret.length]!])
  }
  return found
}

/** Replaces each + by a space, which + stands for in forms. */
function folded(letters: string): string {
  return letters.replaceAll('+', ' ')
}

function without(ranges: [start: number, end: number][], bytes: string): string {
  const parts: string[] = []
  let kept = 0
  for (const [start, end] of ranges.sort(([a], [b]) => a - b)) {
    if (start >= kept) parts.push(bytes.slice(kept, start), REDACTED)
    kept = Math.max(kept, end)
  }
  return Buffer.from(parts.join('') + bytes.slice(kept), 'latin1').toString()
}

function bytesOf(text: string): string {
  return Buffer.from(text).toString('latin1')
}

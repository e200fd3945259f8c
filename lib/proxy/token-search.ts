import { unescaped } from '../errors/redact.js'

/** Tells whether a text shows a token. */
export type TokenSearch = (text: string) => boolean

/** A token of a few letters, as in tests, would be found in anything. */
const SHORTEST = 8

/**
 * Searches for a token in whatever way it may be written: as it is, escaped (for a URL, JSON or HTML), in base64, base64url,
 * base32, hex or decimal bytes, in letters of either case, alone or within something else that is written so.
 *
 * A text that is shorter than the token is not looked at. Nothing is computed before a longer one comes.
 */
export function tokenSearch(token: string | undefined): TokenSearch {
  if (token === undefined || token.length < SHORTEST) return () => false
  let written: Written | undefined
  return (text) => {
    if (text.length < token.length) return false
    written ??= writtenForms(token)
    return isShown(written, text)
  }
}

/** The forms of a token that are searched for, folded. */
interface Written {
  readonly texts: readonly string[]
  readonly hex: string
  readonly decimal: string
}

function writtenForms(token: string): Written {
  const inForm = new URLSearchParams({ '': token }).toString().slice(1)
  const within = [token, token.replaceAll('/', '\\/'), encodeURIComponent(token), inForm]
  const texts = [...unescaped(token), ...[...new Set(within)].flatMap(inBase64), ...inBase32(token)]
  const bytes = Buffer.from(token)
  return {
    texts: [...new Set(texts.map(folded))],
    hex: bytes.toString('hex'),
    decimal: `,${bytes.join(',')},`,
  }
}

function isShown({ texts, hex, decimal }: Written, text: string): boolean {
  return unescaped(text).some((reading) => {
    const letters = folded(reading)
    if (texts.some((each) => letters.includes(each)) || numbersIn(letters).includes(decimal)) return true
    return digitsOf(letters).includes(hex) || digitsOf(letters.replaceAll('0x', '')).includes(hex)
  })
}

/**
 * Returns the three forms that a text has in base64. The form depends on the position of the text in the encoded data. Letters
 * that also depend on neighbouring bytes are left out.
 */
function inBase64(text: string): string[] {
  const bytes = Buffer.from(text)
  return [0, 1, 2].map((before) => {
    const encoded = Buffer.concat([Buffer.alloc(before), bytes]).toString('base64')
    return encoded.slice([0, 2, 3][before], Math.floor(((before + bytes.length) * 4) / 3))
  })
}

/** Returns the five forms that a text has in base32 (RFC 4648 §6), by its position in the encoded data. */
function inBase32(text: string): string[] {
  const bits = [...Buffer.from(text)].map((byte) => byte.toString(2).padStart(8, '0')).join('')
  return [0, 1, 2, 3, 4].map((start) => {
    const letters = bits.slice(start).match(/.{5}/g) ?? []
    return letters.map((letter) => BASE32[Number.parseInt(letter, 2)]).join('')
  })
}

const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'

/**
 * Returns a text in one spelling: base64 and base64url become one, forms have `+` for a space, and names of headers come in lower
 * case.
 */
function folded(text: string): string {
  return text.toLowerCase().replace(/[- ]/g, '+').replaceAll('_', '/')
}

/** Returns the hex digits of a text, which may have something between the bytes. */
function digitsOf(text: string): string {
  return text.replace(/[^\da-f]/g, '')
}

/** Returns the decimal numbers in a text as `,1,2,3,`. So a token is found in the JSON of a buffer, which lists its bytes. */
function numbersIn(text: string): string {
  return `,${(text.match(/\d+/g) ?? []).join(',')},`
}

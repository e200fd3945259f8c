/*
 * A pattern and random symbols differ in how likely they make a key. Each test below rejects a key that a pattern makes 2^30
 * times as likely as chance. Of 2^30 random keys it rejects less than one.
 */
const MARGIN_BITS = 30

/** The digits of Base64 (RFC 4648 §4 and §5). Both forms have the same ones but for the last two. */
const DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'

/** Whether a random generator would hardly make these bytes: they are alike, few, repeated, or counted up. */
export function areWeakKeys(bytes: Uint8Array): boolean {
  return isPattern([...bytes], 256)
}

/** Whether a random generator would hardly make the text of this key, though it is valid Base64 or hexadecimal. */
export function isWeakKey(text: string, isHex: boolean): boolean {
  const symbols = isHex ? [...text].map((digit) => Number.parseInt(digit, 16)) : [...text].map(digitOf)
  return isPattern(symbols, isHex ? 16 : 64) || (!isHex && readsLikeWords(text))
}

function digitOf(character: string): number {
  const at = DIGITS.indexOf(character)
  if (at >= 0) return at
  return character === '+' || character === '-' ? 62 : 63
}

function isPattern(symbols: readonly number[], size: number): boolean {
  const steps = symbols.slice(1).map((symbol, at) => (symbol - symbols[at]! + size) % size)
  return areFew(symbols, size) || repeats(symbols, size) || repeats(steps, size)
}

/** Whether only a few of all symbols occur. There are `size` over `few` ways to choose them. */
function areFew(symbols: readonly number[], size: number): boolean {
  const few = new Set(symbols).size
  let choiceBits = 0
  for (let at = 0; at < few; at++) choiceBits += Math.log2((size - at) / (few - at))
  return symbols.length * Math.log2(size / few) - choiceBits > MARGIN_BITS
}

/** Whether the symbols repeat: with some period, more symbols equal the symbol one period earlier than chance explains. */
function repeats(symbols: readonly number[], size: number): boolean {
  const periods = Math.floor(symbols.length / 2)
  for (let period = 1; period <= periods; period++) {
    const compared = symbols.slice(period)
    const same = compared.filter((symbol, at) => symbol === symbols[at]).length
    // The positions that match and the period are choices, too.
    if (same * Math.log2(size) - compared.length - Math.log2(2 * periods) > MARGIN_BITS) return true
  }
  return false
}

/** How often letters occur in English, in thousandths; other languages of Latin letters are near enough. */
const LETTERS: Readonly<Record<string, number>> = {
  ...{ a: 82, b: 15, c: 28, d: 43, e: 125, f: 22, g: 20, h: 61, i: 70, j: 2, k: 8, l: 40, m: 24 },
  ...{ n: 67, o: 75, p: 19, q: 1, r: 60, s: 63, t: 90, u: 28, v: 10, w: 24, x: 2, y: 20, z: 1 },
}

/** How likely a kind of character follows another kind, in a text of words. */
const FOLLOWS: Readonly<Record<Kind, Readonly<Record<Kind, number>>>> = {
  lower: { lower: 0.84, upper: 0.08, digit: 0.03, sign: 0.05 },
  upper: { lower: 0.5, upper: 0.42, digit: 0.03, sign: 0.05 },
  digit: { lower: 0.1, upper: 0.1, digit: 0.7, sign: 0.1 },
  sign: { lower: 0.5, upper: 0.3, digit: 0.19, sign: 0.01 },
}

type Kind = 'lower' | 'upper' | 'digit' | 'sign'

function kindOf(character: string): Kind {
  if (/[a-z]/.test(character)) return 'lower'
  if (/[A-Z]/.test(character)) return 'upper'
  return /\d/.test(character) ? 'digit' : 'sign'
}

/** Whether a text of Base64 digits is a passphrase: it has words, or runs of letters of one case and of digits. */
function readsLikeWords(text: string): boolean {
  const ofWords = wordBits(text, (letter) => LETTERS[letter]! / 1000)
  const ofRuns = wordBits(text, () => 1 / 26)
  return Math.max(ofWords, ofRuns) > MARGIN_BITS
}

/** Returns how many times as likely a text is as words than as random digits: the logarithm to the base 2. */
function wordBits(text: string, shareOf: (letter: string) => number): number {
  const shares = { digit: () => 1 / 10, sign: () => 1 / 2, lower: shareOf, upper: shareOf }
  let bits = 0
  let before: Kind = 'sign'
  for (const character of text) {
    const kind = kindOf(character)
    bits += Math.log2(64 * FOLLOWS[before][kind] * shares[kind](character.toLowerCase()))
    before = kind
  }
  return bits
}

import { ConfigurationError } from '../errors/token-error.js'

/**
 * Throws if an object has a key that is not allowed. The message says what to write instead.
 *
 * @param cures maps a wrong name of an option, e.g. a name from another library, to a sentence that tells how to correct it
 */
export function rejectUnknownOptions(
  object: object,
  allowed: readonly string[],
  of: string,
  cures: Readonly<Record<string, string>> = {},
): void {
  for (const name of Object.keys(object)) {
    if (allowed.includes(name)) continue
    const closest = suggest(name, allowed)
    const cure =
      (Object.hasOwn(cures, name) && cures[name]) ||
      (closest ? `Did you mean \`${closest}\`?` : `Known are ${allowed.join(', ')}.`)
    throw new ConfigurationError(`${of} has no option \`${name}\`. ${cure}`)
  }
}

/** Returns the word of a list that a misspelt word was probably meant to be. */
export function suggest(word: string, words: readonly string[]): string | undefined {
  const [closest] = words
    .map((candidate) => ({ candidate, distance: distanceOf(word.toLowerCase(), candidate.toLowerCase()) }))
    .filter(({ candidate, distance }) => distance <= Math.max(2, Math.floor(candidate.length / 3)))
    .sort((a, b) => a.distance - b.distance)
  return closest?.candidate
}

/** Returns how many letters must be inserted, deleted or replaced to turn one word into the other (Levenshtein). */
function distanceOf(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1]
    for (const [j, other] of [...b].entries()) {
      next.push(Math.min(next[j]! + 1, row[j + 1]! + 1, row[j]! + (letter === other ? 0 : 1)))
    }
    row = next
  }
  return row[b.length]!
}

import { ConfigurationError } from './errors.js'

/** What people are used to from other libraries, in the place of options of sessionTokens(). */
const ELSEWHERE: Readonly<Record<string, string>> = {
  clientSecret: 'Use clientAuthentication: clientSecretBasic(secret).',
  client_secret: 'Use clientAuthentication: clientSecretBasic(secret).',
  client_id: 'Did you mean `clientId`?',
  tokenURL: 'Did you mean `tokenEndpoint`?',
  authentication: 'Did you mean `clientAuthentication`?',
  issuerUrl: 'Did you mean `issuer`?',
  issuerURL: 'Did you mean `issuer`?',
  redirectUri: 'It goes to acquire({ redirect_uri }).',
  redirectURI: 'It goes to acquire({ redirect_uri }).',
  redirect_uri: 'It goes to acquire({ redirect_uri }).',
  callbackURL: 'It goes to acquire({ redirect_uri }).',
  store: 'The session store belongs to express-session; the store that processes share is `grants`.',
  scope:
    'Scopes are asked for where a token is needed: requireTokens({ scope }) or getAccessToken({ scope }).',
}

/**
 * Throws if an object has a key that is not among those allowed, and says which was probably meant.
 *
 * @param elsewhere what people are used to from other libraries, and what to do instead
 */
export function refuseUnknown(
  object: object,
  allowed: readonly string[],
  where: string,
  elsewhere: Readonly<Record<string, string>> = ELSEWHERE,
): void {
  for (const name of Object.keys(object)) {
    if (allowed.includes(name)) continue
    const closest = closestTo(name, allowed)
    const cure =
      (Object.hasOwn(elsewhere, name) && elsewhere[name]) ||
      (closest ? `Did you mean \`${closest}\`?` : `Known are ${allowed.join(', ')}.`)
    throw new ConfigurationError(`${where} has no option \`${name}\`. ${cure}`)
  }
}

/** The word of a list that a misspelt word was probably meant to be. */
export function closestTo(word: string, words: readonly string[]): string | undefined {
  const [closest] = words
    .map((candidate) => ({ candidate, distance: distanceOf(word.toLowerCase(), candidate.toLowerCase()) }))
    .filter(({ candidate, distance }) => distance <= Math.max(2, Math.floor(candidate.length / 3)))
    .sort((a, b) => a.distance - b.distance)
  return closest?.candidate
}

/** How many letters must be inserted, deleted or replaced to turn one word into the other (Levenshtein). */
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

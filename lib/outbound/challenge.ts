import { StepUpError } from '../errors.js'

/** What an API says of the token it was sent: it takes it, wants another one, or wants the user to log in again. */
export type Verdict = 'taken' | 'refused' | StepUpError

/** A challenge's parameters by their names in lower case. Of two of the same name the first counts. */
interface Challenge {
  readonly scheme: string
  readonly parameters: ReadonlyMap<string, string>
}

/**
 * What a `WWW-Authenticate` header is made of (RFC 9110 §11.6.1): a parameter, quoted or not, a word that stands alone,
 * or any other letter. A quotation that does not end goes on to the end, so that nothing in it is taken for a parameter.
 * Whatever it is given, one of them fits at once: it reads junk in linear time.
 */
const PIECE =
  /([\w!#$%&'*+.^`|~-]+)(?:[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)(?:"|\\?$)|([^\s,"]+)))?|"(?:[^"\\]|\\.)*(?:"|\\?$)|./gs

/**
 * Reads a 401's challenge (RFC 6750 §3.1, RFC 9470 §3). A token is refused by `invalid_token`, or when no error is named.
 * Any other error is the app's to see: a new token would not help.
 *
 * @param token the one that was sent, which no error may show
 */
export function verdictOn(status: number, wwwAuthenticate: string, token: string): Verdict {
  if (status !== 401) return 'taken'
  const { error, parameters } = errorIn(challengesIn(wwwAuthenticate))
  if (error === '' || error === 'invalid_token') return 'refused'
  return error === 'insufficient_user_authentication' ? stepUp(parameters, token) : 'taken'
}

/** The first error that is said of a bearer token; of any token, where no challenge is for bearer tokens. */
function errorIn(challenges: readonly Challenge[]): {
  error: string
  parameters: Challenge['parameters']
} {
  const ours = challenges.filter(({ scheme }) => scheme === 'bearer')
  for (const { parameters } of ours.length > 0 ? ours : challenges) {
    const error = parameters.get('error')?.toLowerCase()
    if (error) return { error, parameters }
  }
  return { error: '', parameters: new Map() }
}

function challengesIn(header: string): Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = []
  let beginsAnew = true
  for (const [piece, word, quoted, plain] of header.matchAll(PIECE)) {
    if (piece.trim() === '') continue
    const value = quoted?.replace(/\\(.)/gs, '$1') ?? plain
    if (word !== undefined && value !== undefined) {
      if (challenges.length === 0) challenges.push({ scheme: '', parameters: new Map() })
      const { parameters } = challenges.at(-1)!
      const name = word.toLowerCase()
      if (!parameters.has(name)) parameters.set(name, value)
    } else if (word !== undefined && beginsAnew) {
      // Elsewhere than behind a comma a word is no scheme, but its token68.
      challenges.push({ scheme: word.toLowerCase(), parameters: new Map() })
    }
    beginsAnew = piece === ','
  }
  return challenges
}

function stepUp(parameters: ReadonlyMap<string, string>, token: string): StepUpError {
  const [acrValues, maxAge, scope] = ['acr_values', 'max_age', 'scope'].map((name) => parameters.get(name))
  return new StepUpError(
    {
      ...(acrValues && { acrValues }),
      ...(maxAge && /^\d{1,9}$/.test(maxAge) && { maxAge: Number(maxAge) }),
      ...(scope && { scope }),
    },
    { secrets: [token] },
  )
}

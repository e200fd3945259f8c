import { StepUpError } from '../errors/token-error.js'
import { parseJsonObject } from '../options/own-properties.js'

/** The API accepts the token, wants another one, or wants the user to log in again. */
export type ChallengeResult = 'accepted' | 'invalid_token' | StepUpError

/** How an access token is sent. */
export type AuthorizationScheme = 'Bearer' | 'DPoP'

/** A challenge's parameters by their names in lower case. The first of two parameters with the same name counts. */
interface Challenge {
  readonly scheme: string
  readonly parameters: ReadonlyMap<string, string>
}

/**
 * A piece of a `WWW-Authenticate` header (RFC 9110 §11.6.1): a parameter, quoted or not, a word that stands alone, or any other
 * letter. A quotation that does not end reaches to the end, so that no part of it is read as a parameter. One of the alternatives
 * always matches at once, so any text is read in linear time.
 */
const PIECE =
  /([\w!#$%&'*+.^`|~-]+)(?:[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)(?:"|\\?$)|([^\s,"]+)))?|"(?:[^"\\]|\\.)*(?:"|\\?$)|./gs

/** How long the claims that an API asks for may be, in characters of JSON. They have to fit into the URL of a login. */
const MAX_CLAIMS_LENGTH = 4096

/**
 * Reads a 401's challenge (RFC 6750 §3.1, RFC 9470 §3). A token is rejected by `invalid_token`, or when no error is named. If the
 * API names claims that the next token must have, a login must request them: with `insufficient_claims`, and with
 * `invalid_token`, as Entra ID's continuous access evaluation does. The app gets the response for any other error: a new token
 * would not help. The same holds for `insufficient_claims` without readable claims, since a login would have nothing to request.
 *
 * @param secrets the tokens of the session, which no error may show; called only when there is an error
 * @param scheme how the token was sent
 */
export function readChallenge(
  status: number,
  wwwAuthenticate: string,
  secrets: () => readonly string[],
  scheme: AuthorizationScheme = 'Bearer',
): ChallengeResult {
  if (status !== 401) return 'accepted'
  const { error, parameters } = errorIn(challengesIn(wwwAuthenticate), scheme)
  const claims = claimsIn(parameters.get('claims'))
  if (error === 'insufficient_user_authentication' || (claims && wantsClaims(error))) {
    return stepUp(parameters, claims, secrets())
  }
  return error === '' || error === 'invalid_token' ? 'invalid_token' : 'accepted'
}

function wantsClaims(error: string): boolean {
  return error === 'insufficient_claims' || error === 'invalid_token'
}

/** Returns the error code of a challenge that refuses the proof of a request, and not its token (RFC 9449 §7.1, §9). */
export function refusalOfProof(status: number, wwwAuthenticate: string): string | undefined {
  if (status !== 401) return undefined
  const { error } = errorIn(challengesIn(wwwAuthenticate), 'DPoP')
  return error === 'use_dpop_nonce' || error === 'invalid_dpop_proof' ? error : undefined
}

/**
 * Returns the first error in the challenges for the scheme with which the token was sent. If no challenge is for that scheme, all
 * challenges count.
 */
function errorIn(
  challenges: readonly Challenge[],
  sent: AuthorizationScheme,
): {
  error: string
  parameters: Challenge['parameters']
} {
  const ours = challenges.filter(({ scheme }) => scheme === sent.toLowerCase())
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
      // A word that does not follow a comma is no scheme, but the token68 of one.
      challenges.push({ scheme: word.toLowerCase(), parameters: new Map() })
    }
    beginsAnew = piece === ','
  }
  return challenges
}

/** Returns the claims as JSON, which an API may send as it is, or in base64 or base64url with or without padding. */
function claimsIn(parameter: string | undefined): string | undefined {
  if (!parameter || parameter.length > 2 * MAX_CLAIMS_LENGTH) return undefined
  const json = parameter.trimStart().startsWith('{') ? parameter : decoded(parameter)
  return json.length <= MAX_CLAIMS_LENGTH && parseJsonObject(json) ? json : undefined
}

function decoded(parameter: string): string {
  const base64 = /^[\w+/-]+(?=={0,2}$)/.exec(parameter.trim())?.[0] ?? ''
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(base64, 'base64'))
  } catch {
    return ''
  }
}

function stepUp(
  parameters: ReadonlyMap<string, string>,
  claims: string | undefined,
  secrets: readonly string[],
): StepUpError {
  const [acrValues, maxAge, scope] = ['acr_values', 'max_age', 'scope'].map((name) => parameters.get(name))
  return new StepUpError(
    {
      ...(acrValues && { acrValues }),
      ...(maxAge && /^\d{1,9}$/.test(maxAge) && { maxAge: Number(maxAge) }),
      ...(scope && { scope }),
      ...(claims && { claims }),
    },
    { secrets },
  )
}

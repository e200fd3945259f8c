import { ConfigurationError, type StepUp } from '../errors/token-error.js'
import { ownProperties, parseJsonObject } from '../options/own-properties.js'
import type { TransactionStart } from './transaction.js'

/** Parameters of an authorization request (OpenID Connect Core §3.1.2.1, RFC 8707), by their names on the wire. Those that are `undefined` are left out. */
export interface AuthorizationParameters {
  /** Separated by spaces; with `openid`. Default: `'openid offline_access'`. */
  scope?: string | undefined
  resource?: string | readonly string[] | undefined
  prompt?: string | undefined
  login_hint?: string | undefined
  /** The accepted authentication context classes, separated by spaces. The ID token must have one of them as `acr`. */
  acr_values?: string | undefined
  /**
   * The greatest age of the user's login at the authorization server, in seconds. If the login is older, the server asks the user
   * to log in again. The `auth_time` of the ID token is checked.
   */
  max_age?: number | undefined
  /** Requested claims, as JSON. */
  claims?: string | undefined
  [name: string]: string | number | readonly string[] | undefined
}

/** The parameters, or a function of the request that returns them. */
export type AuthorizationOption<Request> =
  | AuthorizationParameters
  | ((request: Request) => AuthorizationParameters | Promise<AuthorizationParameters>)

const DEFAULT_SCOPE = 'openid offline_access'

/** Maps the parameters that login() sets by itself to sentences that tell the app what to do instead. */
const OWN: Readonly<Record<string, string>> = {
  client_id: 'It is the option `clientId`.',
  redirect_uri: 'It is `baseUrl` with the path `routes.callback`.',
  response_type: 'It is always `code`.',
  response_mode: 'Use the option `responseMode`.',
  state: 'Use the query `returnTo` of /login to come back to a page.',
  nonce: 'It is random.',
  code_challenge: 'It is random.',
  code_challenge_method: 'It is always S256.',
  dpop_jkt: 'It is sent by itself with the option `dpop` of sessionTokens().',
  request: 'Use the option `requestObjectKey`.',
  request_uri: 'Use the option `pushedRequests`.',
}

/**
 * The parameters that one authorization request may have several times: an API for each value (RFC 8707 §2). RFC 6749 §3.1
 * forbids this for all other parameters.
 */
const REPEATED: readonly string[] = ['resource', 'audience']

/** The parameters of one authorization request, and the values that the ID token is checked for. */
export interface AuthorizationRequest {
  readonly parameters: URLSearchParams
  readonly checks: Pick<TransactionStart, 'maxAge' | 'acrValues'>
}

/**
 * Puts the parameters of an authorization request together.
 *
 * @param given the parameters that the app gives
 * @param stepUp the further requirements of an API
 * @throws `ConfigurationError` for a parameter that login() sets by itself, and for a wrong value
 */
export function authorizationRequest(given: AuthorizationParameters, stepUp?: StepUp): AuthorizationRequest {
  if (typeof given !== 'object' || given === null) {
    throw new ConfigurationError(
      "`authorization` must be an object, or a function that returns one: authorization: { scope: 'openid offline_access' }.",
    )
  }
  const named = ownProperties(withStepUp({ scope: DEFAULT_SCOPE, ...ownProperties(given) }, stepUp))
  const parameters = new URLSearchParams()
  for (const [name, value] of Object.entries(named)) {
    if (value === undefined) continue
    if (Object.hasOwn(OWN, name)) {
      throw new ConfigurationError(`\`authorization\` must not give \`${name}\`. ${OWN[name]}`)
    }
    for (const each of REPEATED.includes(name) ? [value].flat() : [value]) {
      parameters.append(name, textOf(each, name))
    }
  }
  checkScope(named.scope)
  const { acr_values: acrValues, max_age: maxAge } = named
  return {
    parameters,
    checks: {
      ...(maxAge !== undefined && { maxAge: checkedMaxAge(maxAge) }),
      ...(acrValues !== undefined && { acrValues: String(acrValues) }),
    },
  }
}

function textOf(value: unknown, name: string): string {
  if (typeof value === 'string' || (typeof value === 'number' && Number.isFinite(value))) return String(value)
  throw new ConfigurationError(
    `\`authorization\`: \`${name}\` must be a string or a number; \`resource\` and \`audience\` may be arrays of strings.`,
  )
}

function checkScope(scope: unknown): void {
  if (typeof scope === 'string' && scope.split(' ').includes('openid')) return
  throw new ConfigurationError(
    "`authorization`: `scope` must have `openid`, since login() checks an ID token: scope: 'openid offline_access'.",
  )
}

function checkedMaxAge(maxAge: unknown): number {
  if (typeof maxAge === 'number' && Number.isSafeInteger(maxAge) && maxAge >= 0) return maxAge
  throw new ConfigurationError(
    '`authorization`: `max_age` must be a whole number of seconds, 0 or more and not a string, e.g. max_age: 300.',
  )
}

/**
 * Adds the requirements of an API. The stricter `max_age` counts. `prompt: 'none'` is left out, since the authorization server
 * must be able to show a page.
 */
function withStepUp(given: AuthorizationParameters, stepUp: StepUp | undefined): AuthorizationParameters {
  if (!stepUp) return given
  const { acrValues, claims, maxAge, scope } = ownProperties(stepUp)
  const { prompt, ...others } = ownProperties(given)
  return {
    ...others,
    ...(prompt !== undefined && prompt !== 'none' && { prompt }),
    ...(acrValues !== undefined && { acr_values: acrValues }),
    ...(maxAge !== undefined && { max_age: Math.min(maxAge, others.max_age ?? maxAge) }),
    ...(claims !== undefined && { claims: withClaims(given.claims, claims) }),
    ...(scope !== undefined && { scope: [...new Set(`${given.scope} ${scope}`.split(' '))].join(' ') }),
  }
}

/**
 * Merges two `claims` parameters, separately for each place that is to hold the claims: `id_token`, `userinfo`, `access_token`.
 */
function withClaims(given: string | undefined, required: string): string {
  const [ours, theirs] = [parseJsonObject(given ?? '{}') ?? {}, parseJsonObject(required) ?? {}]
  const merged = Object.entries(theirs).map(([place, claims]) => [
    place,
    { ...(ours[place] as object), ...(claims as object) },
  ])
  return JSON.stringify({ ...ours, ...Object.fromEntries(merged) })
}

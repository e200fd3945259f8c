import { ConfigurationError } from '../errors.js'
import { ownProperties } from '../own-properties.js'
import type { TokenNeed } from '../token-set.js'
import type { ClientCredentials } from './client-authentication.js'
import type { FormParameters } from './form.js'
import { scopesIn } from './scopes.js'

/** Parameters by their names on the wire; an array is sent as several parameters of one name. */
export type RefreshParameters = Readonly<Record<string, string | readonly string[]>>

/** What a refresh is asked for: as `getAccessToken()`, or the route, has named it. */
export type RefreshedNeed = Pick<TokenNeed, 'scope' | 'resource' | 'audience'>

/** The option `refreshParameters`. */
export type RefreshParametersOption =
  | RefreshParameters
  | ((need: Readonly<RefreshedNeed>) => RefreshParameters | undefined)

const EXAMPLE = "refreshParameters: { scope: 'openid offline_access' }"
/** RFC 6749 §6 and §2.3.1, RFC 7521 §4.2. */
const RESERVED: readonly string[] = [
  ...[
    'grant_type',
    'refresh_token',
    'client_id',
    'client_secret',
    'client_assertion',
    'client_assertion_type',
  ],
]

/** @throws `ConfigurationError` unless the option is a function, or an object of parameters that may be added */
export function checkRefreshParameters(option: unknown): void {
  if (typeof option !== 'function') checkParameters(option, '`refreshParameters`')
}

/**
 * The parameters of a refresh besides its own: what the need names, and what the option adds.
 *
 * What the need names wins over a record. A function has been told of the need, so what it returns is sent as it is; it may
 * add scopes, and take away nothing that the need names.
 *
 * @throws `ConfigurationError` when a function fails, or returns something that may not be sent
 */
export function parametersOfRefresh(
  option: RefreshParametersOption | undefined,
  need: RefreshedNeed,
): FormParameters {
  if (option === undefined) return { ...need }
  if (typeof option !== 'function') return { ...option, ...need }
  const returned = returnedBy(option, need)
  if (returned === undefined) return { ...need }
  checkParameters(returned, 'What the function `refreshParameters` returns')
  const added = ownProperties(returned)
  for (const name of ['resource', 'audience'] as const) {
    if (
      need[name] !== undefined &&
      Object.hasOwn(added, name) &&
      ![added[name]].flat().includes(need[name])
    ) {
      throw dropsNeed(name)
    }
  }
  const scopes = new Set(scopesIn(added.scope))
  if (Object.hasOwn(added, 'scope') && scopesIn(need.scope).some((scope) => !scopes.has(scope))) {
    throw dropsNeed('scope')
  }
  return { ...need, ...added }
}

function returnedBy(
  option: Extract<RefreshParametersOption, (...args: never) => unknown>,
  { scope, resource, audience }: RefreshedNeed,
): RefreshParameters | undefined {
  try {
    return option({
      ...(scope !== undefined && { scope }),
      ...(resource !== undefined && { resource }),
      ...(audience !== undefined && { audience }),
    })
  } catch (cause) {
    throw new ConfigurationError(
      '`refreshParameters` failed, so nothing was sent, and the refresh token is unused. The cause says why.',
      { cause, causeMessage: cause instanceof TypeError },
    )
  }
}

function checkParameters(value: unknown, what: string): void {
  if (value instanceof Promise) value.catch(() => {})
  if (typeof value !== 'object' || value === null || value instanceof Promise || Symbol.iterator in value) {
    throw new ConfigurationError(`${what} must be a plain object of strings, at once, e.g. ${EXAMPLE}.`)
  }
  for (const [name, parameter] of Object.entries(value)) {
    if (RESERVED.includes(name)) {
      throw new ConfigurationError(
        `${what} must not set ${name}, which belongs to the refresh or to clientAuthentication. Leave it out.`,
      )
    }
    const texts: unknown[] = Array.isArray(parameter) ? parameter : [parameter]
    if (texts.every((text) => typeof text === 'string')) continue
    throw new ConfigurationError(
      `${what} must be strings, or arrays of strings, but ${name} is not. Leave out what is not to be sent.`,
    )
  }
}

/** @throws `ConfigurationError` when what is added would take the place of the client authentication's own parameters */
export function refuseOverrides(added: readonly string[], { parameters = {} }: ClientCredentials): void {
  const name = added.find((it) => Object.hasOwn(parameters, it))
  if (name === undefined) return
  throw new ConfigurationError(
    `\`refreshParameters\` must not set ${name}, which clientAuthentication sets. Nothing was sent; leave it out.`,
  )
}

function dropsNeed(name: string): ConfigurationError {
  return new ConfigurationError(
    `The function \`refreshParameters\` returned a ${name} without the one that was asked for, so nothing was sent. Add to ` +
      `need.${name}, or leave ${name} out.`,
  )
}

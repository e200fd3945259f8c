import { ConfigurationError } from '../../errors/token-error.js'
import { ownProperties } from '../../options/own-properties.js'
import type { TokenNeed } from '../../tokens/token-need.js'
import type { FormParameters } from './token-endpoint.js'
import { scopesIn } from './token-response.js'

/** Parameters by their names on the wire; an array is sent as several parameters of one name. */
export type RefreshParameters = Readonly<Record<string, string | readonly string[]>>

/** The token that a refresh is for, as `getAccessToken()` or the route has named it. */
export type RefreshedNeed = Pick<TokenNeed, 'scope' | 'resource' | 'audience'>

/** The option `refreshParameters`. */
export type RefreshParametersOption =
  | RefreshParameters
  | ((need: Readonly<RefreshedNeed>) => RefreshParameters | undefined)

const EXAMPLE = "refreshParameters: { scope: 'openid offline_access' }"
/** The parameters that this library sends itself, so the option may not have them (RFC 6749 §6 and §2.3.1, RFC 7521 §4.2). */
const RESERVED: readonly string[] = [
  ...['grant_type', 'refresh_token', 'client_id', 'client_secret'],
  ...['client_assertion', 'client_assertion_type'],
]

/**
 * Checks the option.
 *
 * @throws `ConfigurationError` unless it is a function, or an object of parameters that may be added
 */
export function checkRefreshParameters(option: unknown): void {
  if (typeof option !== 'function') checkParameters(option, '`refreshParameters`')
}

/**
 * Merges the parameters that the need names with those that the option adds.
 *
 * The parameters of the need replace those of an object. A function gets the need, so its result is sent as it is. The result may
 * add scopes, but it must keep the values that the need names.
 *
 * @throws `ConfigurationError` when a function fails, or returns parameters that must not be sent
 */
export function parametersOfRefresh(option: RefreshParametersOption, named: RefreshedNeed): FormParameters {
  const need = ownProperties(named)
  if (typeof option !== 'function') return { ...option, ...need }
  const returned = call(option, need)
  if (returned === undefined) return { ...need }
  checkParameters(returned, 'The result of the function `refreshParameters`')
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

function call(
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
    throw new ConfigurationError(
      `${what} must be a plain object of strings, and no promise, e.g. ${EXAMPLE}.`,
    )
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
      `${what} must hold strings or arrays of strings, but ${name} is neither. Leave out a parameter that is not to be sent.`,
    )
  }
}

function dropsNeed(name: string): ConfigurationError {
  return new ConfigurationError(
    `The function \`refreshParameters\` returned a ${name} that lacks the requested one, so no refresh was sent. Return need.${name} with your additions, ` +
      `or leave ${name} out.`,
  )
}

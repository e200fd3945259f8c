import { ConfigurationError } from '../errors/token-error.js'
import { anyString, duration, optional, text } from '../options/option-kinds.js'
import { checkOptions, type Option, type OptionTable } from '../options/option-table.js'
import { ownProperties } from '../options/own-properties.js'

/** The requirements of a caller on an access token. An empty need is the token that the login brought. */
export interface TokenNeed {
  /** Scopes the token must cover, separated by spaces (RFC 6749 §3.3). */
  scope?: string
  /** The API the token is for, an absolute URI (RFC 8707). */
  resource?: string
  /** The API the token is for, by the name that the authorization server has for it, if that is not a `resource`. */
  audience?: string
  /**
   * The token that the authorization server gives in exchange for the session's own (RFC 8693): a name among the option
   * `exchanges`, which has the scope, the resource and the audience.
   */
  exchange?: string
  /** For how long the token must still be valid, in milliseconds. Default: the `leewayMs` of the middleware. */
  minValidityMs?: number
  /**
   * An access token that an API rejected. The result is another valid token if there is one; otherwise the token is refreshed
   * first. If several new tokens were rejected within a minute, the result may be the rejected token itself, for up to a minute:
   * the API would reject a new one as well.
   */
  rejected?: string
}

/** The need of a caller that names no requirement. */
export const NO_NEED: TokenNeed = ownProperties({})

const OPTIONS = {
  scope: optional(anyString),
  resource: optional(anyString),
  audience: optional(anyString),
  exchange: exchangeOption,
  minValidityMs: optional(duration(60_000, { least: -Infinity, most: Infinity })),
  rejected: optional(anyString),
} satisfies OptionTable<TokenNeed>

const USAGE = {
  of: 'The need of a token',
  takes: "The need of a token must be an object, e.g. { scope: 'orders.read' }",
}

/** Returns the part of a need that selects a token, if it has one. */
export function tokenSelectorOf({ scope, resource, audience, exchange }: TokenNeed): TokenNeed | undefined {
  if ((scope ?? resource ?? audience ?? exchange) === undefined) return undefined
  return {
    __proto__: null,
    ...(scope !== undefined && { scope }),
    ...(resource !== undefined && { resource }),
    ...(audience !== undefined && { audience }),
    ...(exchange !== undefined && { exchange }),
  } as TokenNeed
}

/**
 * Returns the need as an object that inherits nothing, with each scope once and single spaces between them. An empty `scope` is
 * left out.
 *
 * @throws `ConfigurationError` if the value is not a need
 */
export function normalizeNeed(given: TokenNeed): TokenNeed {
  // Every getAccessToken() comes here, so the check against the table, which makes the error, is for wrong needs only.
  if (!isPlainNeed(given)) checkOptions(given, OPTIONS, USAGE)
  const need = { __proto__: null, ...given } as TokenNeed
  if (need.exchange !== undefined) exchangeOption(need.exchange, 'exchange', need as Parameters<Option>[2])
  if (need.scope === undefined) return need
  const scopes = new Set(need.scope.split(/\s+/).filter(Boolean))
  if (scopes.size > 0) need.scope = [...scopes].join(' ')
  else delete need.scope
  return need
}

/** Returns the need of a call. If the call selects no token, the need of the route selects it. */
export function completedNeed(given: TokenNeed, ofRoute: TokenNeed | undefined): TokenNeed {
  const need = normalizeNeed(given)
  if (!ofRoute || tokenSelectorOf(need)) return need
  return { __proto__: null, ...need, ...ofRoute } as TokenNeed
}

/** Whether a need is a plain object of the right values. */
function isPlainNeed(given: unknown): boolean {
  if (typeof given !== 'object' || given === null) return false
  const prototype = Object.getPrototypeOf(given)
  if (prototype !== Object.prototype && prototype !== null) return false
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(OPTIONS, name)) return false
    const isRight = name === 'minValidityMs' ? Number.isFinite(value) : typeof value === 'string'
    if (value !== undefined && !isRight) return false
  }
  return true
}

/** The option `exchange` of a need and of a route: a name, which goes with no other selector. */
export function exchangeOption(...[value, name, all]: Parameters<Option>): unknown {
  if (value === undefined) return undefined
  const exchange = text('billing')(value, name, all)
  const other = besideExchange(all)
  if (other === undefined) return exchange
  throw new ConfigurationError(
    `\`exchange\` names a token by itself, so \`${other}\` cannot be combined with it. Put it into the option \`exchanges\` of ` +
      `sessionTokens(): exchanges: { '${exchange}': { ${other} } }, or leave it out.`,
  )
}

function besideExchange(need: TokenNeed): string | undefined {
  return (['scope', 'resource', 'audience'] as const).find((name) => need[name] !== undefined)
}

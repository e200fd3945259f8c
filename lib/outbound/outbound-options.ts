import { ConfigurationError } from '../errors/token-error.js'
import { count, oneOf, optional, unchecked } from '../options/option-kinds.js'
import {
  type Checked,
  checkKnownOptions,
  checkOptions,
  type OptionTable,
  rejectInheritedOptions,
  type Usage,
} from '../options/option-table.js'
import type { TokenNeed } from '../tokens/token-need.js'
import { normalizeNeed } from '../tokens/token-need.js'
import { namedOrigins } from './origins.js'

/** The requests that are replayed with a new token when an API rejects the first one. */
export type Replay = 'always' | 'idempotent' | 'never'

/** The API, the token that calls carry, and how calls are replayed and redirected. */
export interface OutboundOptions {
  /** The API. The access token is sent to this origin. */
  baseURL: string
  /** Further origins that may see the access token, e.g. `['https://files.example.com']`. */
  allowedOrigins?: readonly string[]
  /** The access token to send. Default: the one that the route needs, see `requireTokens()`; otherwise the one from the login. */
  need?: Omit<TokenNeed, 'rejected'>
  /**
   * Which requests are replayed, once, when the API rejects the token: all whose body can be sent again (`'always'`), those with
   * an idempotent method (RFC 9110 §9.2.2), or none. In each case the next call has a new token. Default: `'always'`.
   */
  replay?: Replay
  /**
   * How many redirects are followed. Default: 5; 0 follows none. The token is sent along to the named origins, until a redirect
   * leads to another origin. From then on no request of the call carries a token.
   */
  maxRedirects?: number
}

/** The option `replay`. */
export const replayOption = oneOf<Replay>(['always', 'idempotent', 'never'])

/** The option `need`. */
export const needOption = (need: unknown = {}): TokenNeed => normalizeNeed(need as TokenNeed)

/** The options of every outbound client. A client may take more. */
export const OUTBOUND_OPTIONS = {
  baseURL: unchecked,
  allowedOrigins: unchecked,
  need: needOption,
  replay: replayOption,
  maxRedirects: optional(count(5)),
} satisfies OptionTable<OutboundOptions>

/** The options of an outbound client once they have been checked. */
export interface CheckedOptions extends Checked<OutboundOptions, typeof OUTBOUND_OPTIONS> {
  readonly origins: ReadonlySet<string>
}

/**
 * Checks the options of an outbound client, and adds the origins that they name.
 *
 * @param client names the client in messages, e.g. `fetch`
 * @param table all options of this client
 */
export function checkOutboundOptions<Given extends OutboundOptions, Table extends OptionTable<Given>>(
  given: Given,
  client: string,
  table: Table,
): Checked<Given, Table> & Pick<CheckedOptions, 'origins'> {
  return withOrigins(checkOptions(given, table, usageOf(client)))
}

/** Checks the options of a client that takes further options as well. */
export function checkKnownOutboundOptions(given: OutboundOptions, client: string): CheckedOptions {
  const checked = checkKnownOptions(given, OUTBOUND_OPTIONS, usageOf(client))
  const misspelt = Object.keys(given).find((name) => /^base_?ur[il]$/i.test(name) && name !== 'baseURL')
  if (misspelt === undefined) return withOrigins(checked)
  throw new ConfigurationError(`${client}() has no option \`${misspelt}\`. Did you mean \`baseURL\`?`)
}

/** Checks that no option of a client is inherited, nor another one of these names. */
export function rejectInheritedOutboundOptions(given: object, client: string, others: string[]): void {
  rejectInheritedOptions(given, [...others, ...Object.keys(OUTBOUND_OPTIONS)], `${client}()`)
}

function withOrigins<Options extends object>(checked: Options): Options & Pick<CheckedOptions, 'origins'> {
  const { allowedOrigins, baseURL } = checked as unknown as CheckedOptions
  return { ...checked, origins: namedOrigins(baseURL, allowedOrigins) }
}

function usageOf(client: string): Usage {
  return {
    of: `${client}()`,
    takes: `${client}() takes an object that names the API: ${client}({ baseURL: 'https://api.example.com' })`,
    cures: { scope: 'Did you mean `need: { scope }`?' },
  }
}

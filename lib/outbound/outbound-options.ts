import { ConfigurationError } from '../errors.js'
import { refuseInherited } from '../own-options.js'
import { ownProperties } from '../own-properties.js'
import { checkedNeed } from '../token-need.js'
import type { TokenNeed } from '../token-set.js'
import { namedOrigins } from './origins.js'

/** Which requests are sent again, with another token, when an API refuses the first one. */
export type Replay = 'always' | 'idempotent' | 'never'

/** Which token calls carry and where to, and what becomes of those that an API refuses it for. */
export interface OutboundOptions {
  /** The API. The access token is sent to this origin. */
  baseURL: string
  /** Further origins that may see the access token, e.g. `['https://files.example.com']`. */
  allowedOrigins?: readonly string[]
  /** Which access token is sent. Default: the route's, see `requireTokens()`, else the one that the login brought. */
  need?: Omit<TokenNeed, 'rejected'>
  /**
   * Which requests are sent again, once, when the API refuses the token: all whose body can be, those with an idempotent
   * method (RFC 9110 §9.2.2), or none. Whatever is chosen, the next call has another token. Default: `'always'`.
   */
  replay?: Replay
  /**
   * How many redirects are followed. Default: 5; none with 0. The token goes along to the origins named, until a redirect
   * leads to another origin. What that one redirects to gets no token.
   */
  maxRedirects?: number
}

/** The options of an outbound client once they have been checked. */
export interface CheckedOptions {
  readonly origins: ReadonlySet<string>
  readonly need: TokenNeed
  readonly replay: Replay
  readonly baseURL: string
  readonly maxRedirects: number | undefined
}

const REPLAYS: readonly unknown[] = ['always', 'idempotent', 'never'] satisfies Replay[]

/** The options of every outbound client. One may take more. */
export const OUTBOUND_OPTIONS = [
  'baseURL',
  'allowedOrigins',
  'need',
  'replay',
  'maxRedirects',
] as const satisfies readonly (keyof OutboundOptions)[]

/** @param client names the client in messages, e.g. `axios` */
export function checkedOptions(given: OutboundOptions, client: string): CheckedOptions {
  if (typeof given !== 'object' || given === null) {
    throw new ConfigurationError(
      `${client}() takes an object that names the API: ${client}({ baseURL: 'https://api.example.com' }).`,
    )
  }
  const misspelt = Object.keys(given).find((name) => /^base_?ur[il]$/i.test(name) && name !== 'baseURL')
  if (misspelt !== undefined) {
    throw new ConfigurationError(`${client}() has no option \`${misspelt}\`. Did you mean \`baseURL\`?`)
  }
  refuseInherited(given, OUTBOUND_OPTIONS, `${client}()`)
  const options = ownProperties(given)
  const { baseURL, allowedOrigins, need = {}, replay = 'always', maxRedirects } = options
  if (!REPLAYS.includes(replay)) {
    throw new ConfigurationError("`replay` must be 'always', 'idempotent' or 'never', or left out.")
  }
  if (maxRedirects !== undefined && !(Number.isSafeInteger(maxRedirects) && maxRedirects >= 0)) {
    throw new ConfigurationError('`maxRedirects` must be a whole number from 0, e.g. maxRedirects: 5.')
  }
  const origins = namedOrigins(baseURL, allowedOrigins)
  return { origins, need: checkedNeed(need), replay, baseURL, maxRedirects }
}

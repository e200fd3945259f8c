import type { ProblemDetails } from '../errors/problem-details.js'
import { checkOptions, type OptionTable } from '../options/option-table.js'
import {
  type ArrivedRequest,
  checkedAllowedOrigins,
  crossOriginRefusal,
  type KnownOfRequest,
} from '../outbound/cross-origin.js'

/** The origins whose pages may send requests that change something. */
export interface RefuseCrossOriginOptions {
  /** Origins whose pages may do so, besides those of this site: `['https://app.example.com']`. Default: none. */
  allowedOrigins?: readonly string[]
}

const OPTIONS = { allowedOrigins: checkedAllowedOrigins } satisfies OptionTable<RefuseCrossOriginOptions>

const USAGE = {
  of: 'refuseCrossOrigin()',
  takes:
    "refuseCrossOrigin() takes an object, or nothing: refuseCrossOrigin({ allowedOrigins: ['https://app.example.com'] })",
  mount: 'app.use(refuseCrossOrigin())',
  cures: {
    origin: 'Did you mean `allowedOrigins`?',
    origins: 'Did you mean `allowedOrigins`?',
    trustedOrigins: 'Did you mean `allowedOrigins`?',
  },
}

/** Returns the response to a request that is refused, or `undefined` for one that may pass. */
export type CrossOriginCheck = (request: ArrivedRequest, known: KnownOfRequest) => ProblemDetails | undefined

/** @throws `ConfigurationError` when an option is wrong */
export function crossOriginCheck(options: RefuseCrossOriginOptions): CrossOriginCheck {
  const { allowedOrigins } = checkOptions(options, OPTIONS, USAGE)
  return (request, known) => crossOriginRefusal(request, known, allowedOrigins)
}

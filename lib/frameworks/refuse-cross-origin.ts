import {
  type ArrivedRequest,
  checkedAllowedOrigins,
  crossOriginRefusal,
  type KnownOfRequest,
} from '../cross-origin.js'
import { ConfigurationError } from '../errors.js'
import { ownOptions } from '../own-options.js'
import type { Problem } from '../problem.js'
import { refuseRequest } from '../uncalled.js'

/** Which pages may send requests that change something. */
export interface RefuseCrossOriginOptions {
  /** Origins whose pages may, besides those of this site: `['https://app.example.com']`. Default: none. */
  allowedOrigins?: readonly string[]
}

/** What people are used to from other libraries. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  origin: 'Did you mean `allowedOrigins`?',
  origins: 'Did you mean `allowedOrigins`?',
  trustedOrigins: 'Did you mean `allowedOrigins`?',
}

/** Tells what is answered in place of the route; nothing if the request may pass. */
export type CrossOriginCheck = (request: ArrivedRequest, known: KnownOfRequest) => Problem | undefined

/** @throws `ConfigurationError` when an option is wrong */
export function crossOriginCheck(options: RefuseCrossOriginOptions): CrossOriginCheck {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new ConfigurationError(
      "refuseCrossOrigin() takes an object, or nothing: refuseCrossOrigin({ allowedOrigins: ['https://app.example.com'] }).",
    )
  }
  refuseRequest(options, 'app.use(refuseCrossOrigin())')
  const own = ownOptions(options, ['allowedOrigins'], 'refuseCrossOrigin()', ELSEWHERE)
  const allowedOrigins = checkedAllowedOrigins(own.allowedOrigins)
  return (request, known) => crossOriginRefusal(request, known, allowedOrigins)
}

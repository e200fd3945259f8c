import { ConfigurationError } from '../errors.js'
import type { Fields } from './fields.js'
import { redactedBody } from './redacted-body.js'

/** A response of the authorization server that refused a refresh. It shows no token and no secret. */
export interface RefusedRefresh {
  /** The HTTP status, below 500, and neither 408 nor 429. It is 200 where the server answers errors with that. */
  readonly status: number
  /** The fields of the body, JSON or form, frozen. Every token and secret in it, at any depth, is `[redacted]`. */
  readonly body: Readonly<Record<string, unknown>>
  /** The error code: `error`, or what the server has in its place. */
  readonly error: string
}

/** Whether a refused refresh ends the grant; `undefined` leaves it to what the library knows. */
export type IsGrantEnded = (refused: RefusedRefresh) => boolean | undefined

/**
 * Asks the option. What it throws, and a result that is no answer, ends no grant.
 *
 * @param secrets Strings that neither the question nor an error may show.
 * @throws `ConfigurationError` when the option fails, or returns something else
 */
export function askIsGrantEnded(
  isGrantEnded: IsGrantEnded,
  { status, body, error }: { readonly status: number; readonly body: Fields; readonly error: string },
  secrets: readonly string[],
): boolean | undefined {
  let said: unknown
  try {
    said = isGrantEnded(Object.freeze({ status, body: redactedBody(body, secrets), error }))
  } catch (cause) {
    throw new ConfigurationError(
      `\`isGrantEnded\` failed when the authorization server answered ${error} (${status}), so the grant was kept. The cause says why.`,
      { cause, secrets, error, causeMessage: cause instanceof TypeError },
    )
  }
  if (said === undefined || typeof said === 'boolean') return said
  // Nobody else waits for it, and a rejection would end the process.
  if (said instanceof Promise) said.catch(() => {})
  const is = said instanceof Promise ? 'a promise' : said === null ? 'null' : `a ${typeof said}`
  throw new ConfigurationError(
    `\`isGrantEnded\` must return true, false or undefined, at once. It returned ${is} when the authorization server answered ` +
      `${error} (${status}), so the grant was kept.`,
    { error },
  )
}

import { JWT, REDACTED, redact } from '../../errors/redact.js'
import { ConfigurationError, sanitizedError } from '../../errors/token-error.js'
import { isJsonObject, type JsonObject } from '../../options/own-properties.js'

/** An error response of the authorization server to a refresh. It shows no token and no secret. */
export interface RefusedRefresh {
  /** The HTTP status, below 500, and neither 408 nor 429. It is 200 where the server sends errors with that status. */
  readonly status: number
  /** The fields of the body, JSON or form, frozen. Every token and secret in it, at any depth, is `[redacted]`. */
  readonly body: Readonly<Record<string, unknown>>
  /** The error code: `error`, or the field that the server has in its place. It is empty if the response has no code. */
  readonly error: string
}

/** Whether a refused refresh ends the grant; `undefined` leaves the decision to the library. */
export type IsGrantEnded = (refused: RefusedRefresh) => boolean | undefined

/** Names of fields whose values count as secrets: `refresh_token`, `client_secret`, `accessToken`, `apiKey`. */
const SECRET_NAME =
  /(?:^|[_-])(?:tokens?|secret|assertion|password|key|code_verifier|jwt)$|(?:Tokens?|Secret|Assertion|Password|Key|Jwt)$/i
const MAX_DEPTH = 16

/**
 * Calls the option `isGrantEnded`. If it fails, or returns an invalid value, the grant is kept.
 *
 * @param secrets Strings that neither the option nor an error may see.
 * @throws `ConfigurationError` when the option throws, or returns anything but true, false or undefined.
 */
export function askIsGrantEnded(
  isGrantEnded: IsGrantEnded,
  { status, body, error }: { readonly status: number; readonly body: JsonObject; readonly error: string },
  secrets: readonly string[],
): boolean | undefined {
  const what = error === '' ? status : `${error} (${status})`
  const details = error === '' ? {} : { error }
  let result: unknown
  try {
    result = isGrantEnded(Object.freeze({ status, body: redactedBody(body, secrets), error }))
  } catch (cause) {
    throw new ConfigurationError(
      `\`isGrantEnded\` failed when the authorization server responded with ${what}, so the grant was kept. The cause says why.`,
      { cause: sanitizedError(cause, secrets, cause instanceof TypeError), ...details },
    )
  }
  if (result === undefined || typeof result === 'boolean') return result
  // A rejection that is not handled would end the process.
  if (result instanceof Promise) result.catch(() => {})
  const type = result instanceof Promise ? 'a promise' : result === null ? 'null' : `a ${typeof result}`
  throw new ConfigurationError(
    `\`isGrantEnded\` must return true, false or undefined, and no promise. It returned ${type} when the authorization server ` +
      `responded with ${what}, so the grant was kept.`,
    details,
  )
}

/** Collects the values of all fields that are named like a token. */
export function tokensIn(fields: JsonObject): string[] {
  const found: string[] = []
  const look = (value: unknown, name: string, depth: number): void => {
    if (depth > MAX_DEPTH) return
    if (isToken(name, value)) found.push(value)
    else if (Array.isArray(value)) for (const item of value) look(item, name, depth + 1)
    else if (isJsonObject(value)) for (const [inner, it] of Object.entries(value)) look(it, inner, depth + 1)
  }
  look(fields, '', 0)
  return found
}

/** Whether a field holds a token. A sentence about a token, such as "is invalid", is none. */
function isToken(name: string, value: unknown): value is string {
  return typeof value === 'string' && value !== '' && SECRET_NAME.test(name) && !/\s/.test(value)
}

/**
 * Makes a frozen copy of a body in which every secret is `[redacted]`, at any depth: the given ones, the value of every field
 * that is named like a token, wherever it is repeated, and every JWT.
 */
function redactedBody(fields: JsonObject, secrets: readonly string[]): JsonObject {
  return redactedCopy(fields, [...secrets, ...tokensIn(fields)], 0) as JsonObject
}

function redactedCopy(value: unknown, secrets: readonly string[], depth: number): unknown {
  if (depth > MAX_DEPTH) return REDACTED
  if (typeof value === 'string') return redact(value, secrets).replace(JWT, REDACTED)
  if (Array.isArray(value)) return Object.freeze(value.map((item) => redactedCopy(item, secrets, depth + 1)))
  if (!isJsonObject(value)) return value
  const entries = Object.entries(value).map(([name, it]): [string, unknown] => [
    redact(name, secrets),
    redactedCopy(it, secrets, depth + 1),
  ])
  return Object.freeze(Object.fromEntries(entries))
}

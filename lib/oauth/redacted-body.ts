import { redact } from '../redact.js'
import { type Fields, isFields } from './fields.js'

export const REDACTED = '[redacted]'
/** Names of fields whose values are keys to something: `refresh_token`, `client_secret`, `accessToken`, `apiKey`. */
const SECRET_NAME =
  /(?:^|[_-])(?:tokens?|secret|assertion|password|key|code_verifier|jwt)$|(?:Tokens?|Secret|Assertion|Password|Key|Jwt)$/i
/** A JWT, a JWE, or the beginning of one. */
export const JWT = /\beyJ[\w-]+(?:\.[\w-]*){2,4}/g
const MAX_DEPTH = 16

/**
 * A frozen copy of a body in which every secret is `[redacted]`, at any depth: those given, every value of a field that is
 * named like a token, wherever it is repeated, and every JWT.
 */
export function redactedBody(fields: Fields, secrets: readonly string[]): Fields {
  const hidden = [...secrets, ...tokensIn(fields)]
  return copyOf(fields, hidden, 0) as Fields
}

/** The values of all fields that are named like a token. */
export function tokensIn(fields: Fields): string[] {
  const found: string[] = []
  const look = (value: unknown, name: string, depth: number): void => {
    if (depth > MAX_DEPTH) return
    if (isToken(name, value)) found.push(value)
    else if (Array.isArray(value)) for (const item of value) look(item, name, depth + 1)
    else if (isFields(value)) for (const [inner, it] of Object.entries(value)) look(it, inner, depth + 1)
  }
  look(fields, '', 0)
  return found
}

/** A sentence about a token ("is invalid") is none. */
function isToken(name: string, value: unknown): value is string {
  return typeof value === 'string' && value !== '' && SECRET_NAME.test(name) && !/\s/.test(value)
}

function copyOf(value: unknown, hidden: readonly string[], depth: number): unknown {
  if (depth > MAX_DEPTH) return REDACTED
  if (typeof value === 'string') return redact(value, hidden).replace(JWT, REDACTED)
  if (Array.isArray(value)) return Object.freeze(value.map((item) => copyOf(item, hidden, depth + 1)))
  if (!isFields(value)) return value
  const entries = Object.entries(value).map(([name, it]): [string, unknown] => [
    redact(name, hidden),
    copyOf(it, hidden, depth + 1),
  ])
  return Object.freeze(Object.fromEntries(entries))
}

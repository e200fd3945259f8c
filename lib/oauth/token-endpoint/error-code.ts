import { isJsonObject, type JsonObject } from '../../options/own-properties.js'

/** The error in a response. */
export interface ServerError {
  readonly code: string
  readonly description?: string
}

/** The fields in which servers put an error code. RFC 6749 §5.2 has `error`. The first field present counts. */
const CODE_FIELDS = [
  ...['error', 'errors', 'error_code', 'errorCode', 'ErrorCode'],
  ...['errcode', 'errorType', 'error_type', 'fault'],
]
/** Fields with an error code or something else. They are read only if the status is that of an error. */
const AMBIGUOUS_FIELDS = ['code', 'status', 'type']
/** The fields of an object in such a field that hold its code. */
const INNER_FIELDS = ['error', 'code', 'errorType', 'type', 'status', 'error_code', 'errorcode', 'detail']
/** Objects around the whole response, as TikTok and Withings send them. */
const ENVELOPES = ['data', 'body']
const DESCRIPTION_FIELDS = [
  ...['error_description', 'errorDescription', 'error_message', 'errorMessage', 'message'],
  ...['errmsg', 'detail'],
]
/** Values that say that there is an error, but not which. */
const NO_CODES: ReadonlySet<string> = new Set([
  ...['', '0', 'error', 'fail', 'failed', 'failure', 'ok', 'success'],
])
const MAX_DEPTH = 3

/**
 * Finds the error in a response, whichever field holds it: `error` as a string (RFC 6749 §5.2), as an object (Facebook) or as
 * a number, `errors` (Fitbit, Strava), `error_code` and so on.
 *
 * @param isFailure Whether the status is that of an error. Then a message counts as the code if there is no code.
 */
export function errorCodeIn(fields: JsonObject, isFailure: boolean): ServerError | undefined {
  const description = descriptionIn(fields)
  const code =
    firstCode(fields, CODE_FIELDS, 0) ??
    envelopedCode(fields) ??
    (isFailure ? (ambiguousCode(fields) ?? description) : undefined)
  if (code === undefined) return undefined
  return { code, ...(description !== undefined && description !== code && { description }) }
}

/** Whether `error`, as a string or as an object, is the code of RFC 6749 §5.2 for a dead grant. */
export function isInvalidGrant(fields: JsonObject): boolean {
  return codeIn(fields.error, 0) === 'invalid_grant'
}

function envelopedCode(fields: JsonObject): string | undefined {
  const inner = ENVELOPES.map((name) => fields[name]).filter(isJsonObject)
  return inner.map((it) => firstCode(it, CODE_FIELDS, 0)).find((code) => code !== undefined)
}

/** Reads strings only: a `status` of 400 or a `code` of 404 repeats the status of the response. */
function ambiguousCode(fields: JsonObject): string | undefined {
  const texts = AMBIGUOUS_FIELDS.filter((name) => typeof fields[name] === 'string')
  return firstCode(fields, texts, 0)
}

function firstCode(fields: JsonObject, names: readonly string[], depth: number): string | undefined {
  for (const name of names) {
    const code = codeIn(fields[name], depth)
    if (code !== undefined) return code
  }
  return undefined
}

function codeIn(value: unknown, depth: number): string | undefined {
  if (depth > MAX_DEPTH) return undefined
  if (typeof value === 'string') return NO_CODES.has(value.toLowerCase()) ? undefined : value
  if (typeof value === 'number') return value === 0 ? undefined : String(value)
  if (Array.isArray(value)) return codeIn(value[0], depth + 1)
  if (!isJsonObject(value)) return undefined
  // Facebook sends a `type` beside `code: 190`, and the type is the more precise of the two.
  const texts = INNER_FIELDS.filter((name) => typeof value[name] !== 'number')
  return firstCode(value, texts, depth + 1) ?? firstCode(value, INNER_FIELDS, depth + 1)
}

function descriptionIn(fields: JsonObject, depth = 0): string | undefined {
  const own = DESCRIPTION_FIELDS.map((name) => fields[name]).find((it) => typeof it === 'string' && it !== '')
  if (own !== undefined || depth > 0) return own as string | undefined
  const inner = [fields.error, fields.errors, fields.fault].flat().find(isJsonObject)
  return inner && descriptionIn(inner, depth + 1)
}

import { type Fields, isFields } from './fields.js'

/** What an error response says: its code, and what it says about it. */
export interface ErrorSaid {
  readonly code: string
  readonly description?: string
}

/** The fields in which servers put an error code. RFC 6749 §5.2 has `error`; the first that is there counts. */
const CODE_FIELDS = [
  ...['error', 'errors', 'error_code', 'errorCode', 'ErrorCode', 'errcode', 'errorType', 'error_type'],
  'fault',
]
/** Those in which a code stands as well, and other things: only an error status makes a code of it. */
const LOOSE_FIELDS = ['code', 'status', 'type']
/** What an object in such a field calls its code. */
const INNER_FIELDS = [
  ...['error', 'code', 'errorType', 'type', 'status', 'error_code', 'errorcode', 'detail'],
]
/** Objects around the whole response, as those of TikTok and Withings. */
const ENVELOPES = ['data', 'body']
const DESCRIPTION_FIELDS = [
  ...[
    'error_description',
    'errorDescription',
    'error_message',
    'errorMessage',
    'message',
    'errmsg',
    'detail',
  ],
]
/** Words that say that there is an error, and not which. */
const NO_CODES: ReadonlySet<string> = new Set([
  '',
  '0',
  'error',
  'fail',
  'failed',
  'failure',
  'ok',
  'success',
])
const MAX_DEPTH = 3

/**
 * What a response says is wrong, in whichever field its server says so: `error` as a text (RFC 6749 §5.2), as an object
 * (Facebook) or as a number, `errors` (Fitbit, Strava), `error_code` and so on.
 *
 * @param isFailure whether the status says that there is an error: then a message is better than no code
 */
export function errorIn(fields: Fields, isFailure: boolean): ErrorSaid | undefined {
  const description = descriptionIn(fields)
  const code =
    firstCode(fields, CODE_FIELDS, 0) ??
    envelopedCode(fields) ??
    (isFailure ? (looseCode(fields) ?? description) : undefined)
  if (code === undefined) return undefined
  return { code, ...(description !== undefined && description !== code && { description }) }
}

/** Whether `error`, as a text or as an object, is the code of RFC 6749 §5.2 for a dead grant. */
export function isInvalidGrant(fields: Fields): boolean {
  return codeIn(fields.error, 0) === 'invalid_grant'
}

function envelopedCode(fields: Fields): string | undefined {
  const inner = ENVELOPES.map((name) => fields[name]).filter(isFields)
  return inner.map((it) => firstCode(it, CODE_FIELDS, 0)).find((code) => code !== undefined)
}

/** A `status` of 400 and a `code` of 404 say no more than the response's own status. */
function looseCode(fields: Fields): string | undefined {
  const texts = LOOSE_FIELDS.filter((name) => typeof fields[name] === 'string')
  return firstCode(fields, texts, 0)
}

function firstCode(fields: Fields, names: readonly string[], depth: number): string | undefined {
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
  if (!isFields(value)) return undefined
  // Beside the `code: 190` of Facebook its `type` says more.
  const texts = INNER_FIELDS.filter((name) => typeof value[name] !== 'number')
  return firstCode(value, texts, depth + 1) ?? firstCode(value, INNER_FIELDS, depth + 1)
}

function descriptionIn(fields: Fields, depth = 0): string | undefined {
  const own = DESCRIPTION_FIELDS.map((name) => fields[name]).find((it) => typeof it === 'string' && it !== '')
  if (own !== undefined || depth > 0) return own as string | undefined
  const inner = [fields.error, fields.errors, fields.fault].flat().find(isFields)
  return inner && descriptionIn(inner, depth + 1)
}

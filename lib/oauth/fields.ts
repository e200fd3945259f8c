import { ownProperties } from '../own-properties.js'

/** A JSON object, or a form, nothing of it checked. */
export type Fields = Readonly<Record<string, unknown>>

/** Whether a value is an object with fields: not `null`, not an array. */
export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** `name=value` pairs and nothing else: no white space, no markup, no braces. */
const FORM = /^[\w.~-]+(?:\[\])?=[^\s<>{}"&]*(?:&[\w.~-]+(?:\[\])?=[^\s<>{}"&]*)*$/
/** JSON as the argument of a function (JSONP), as QQ sends. */
const JSONP = /^[\w$.]+\(\s*(\{.*\})\s*\)\s*;?$/s
/** What a form must name to be a response of a token endpoint. */
const FORM_NAMES = ['access_token', 'error']

/**
 * The fields of a response's body, which is a JSON object (RFC 6749 §5.1), alone or as JSONP, or a form, as GitHub sends.
 * The body decides, as there are servers that declare either to be HTML or plain text.
 */
export function fieldsOfBody(text: string): Fields | undefined {
  const trimmed = text.trim()
  return jsonObject(text) ?? jsonObject(JSONP.exec(trimmed)?.[1] ?? '') ?? formFields(trimmed)
}

function jsonObject(text: string): Fields | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return isFields(value) ? ownProperties(value) : undefined
  } catch {
    // The parser's message quotes the text, and the text may hold tokens.
    return undefined
  }
}

/** Of a name that is there twice the first value counts. */
function formFields(text: string): Fields | undefined {
  if (!FORM.test(text)) return undefined
  const fields = new Map<string, string>()
  for (const [name, value] of new URLSearchParams(text)) if (!fields.has(name)) fields.set(name, value)
  return FORM_NAMES.some((name) => fields.has(name)) ? ownProperties(Object.fromEntries(fields)) : undefined
}

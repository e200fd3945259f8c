import { redact } from '../redact.js'
import { JWT, REDACTED } from './redacted-body.js'

/** A text of the server's as messages may show it: without secrets and JWTs, printable, bounded. */
export function shownText(text: string, secrets: readonly string[], maxLength: number): string {
  // Redacted before it is cut, because half a secret would not be recognised.
  const clean = redact(text, secrets)
    .replace(JWT, REDACTED)
    .replace(/[^\x20-\x7e]+/g, ' ')
    .trim()
  return clean.length > maxLength ? `${clean.slice(0, maxLength)}…` : clean
}

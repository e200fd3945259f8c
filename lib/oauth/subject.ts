import { decodeJwt } from 'jose'
import { ownProperties } from '../own-properties.js'

/** Whether two ID tokens are known to speak of different users (OpenID Connect Core §2, `iss` and `sub`). */
export function differentSubjects(idToken: string | undefined, other: string | undefined): boolean {
  const [subject, otherSubject] = [subjectOf(idToken), subjectOf(other)]
  return subject !== undefined && otherSubject !== undefined && subject !== otherSubject
}

/** Whom an ID token is about, as a text: its `iss` and `sub`. `undefined` for one that does not say, or cannot be read. */
export function subjectOf(idToken: string | undefined): string | undefined {
  if (idToken === undefined) return undefined
  try {
    const { iss, sub } = ownProperties(decodeJwt(idToken))
    return typeof iss === 'string' && typeof sub === 'string' ? JSON.stringify([iss, sub]) : undefined
  } catch {
    return undefined
  }
}

/** What {@link subjectOf} has made a text of; nothing of any other text. */
export function issuerAndSub(subject: string): { readonly iss?: string; readonly sub?: string } {
  try {
    const [iss, sub] = JSON.parse(subject)
    return typeof iss === 'string' && typeof sub === 'string' ? { iss, sub } : ownProperties({})
  } catch {
    return ownProperties({})
  }
}

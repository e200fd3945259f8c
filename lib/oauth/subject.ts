import { decodeJwt } from 'jose'

/** Whether two ID tokens are known to speak of different users (OpenID Connect Core §2, `iss` and `sub`). */
export function differentSubjects(idToken: string | undefined, other: string | undefined): boolean {
  const [subject, otherSubject] = [subjectOf(idToken), subjectOf(other)]
  return subject !== undefined && otherSubject !== undefined && subject !== otherSubject
}

function subjectOf(idToken: string | undefined): string | undefined {
  if (idToken === undefined) return undefined
  try {
    const { iss, sub } = decodeJwt(idToken)
    return iss !== undefined && sub !== undefined ? JSON.stringify([iss, sub]) : undefined
  } catch {
    return undefined
  }
}

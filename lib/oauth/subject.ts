import { decodeJwt } from 'jose'

/** Whether two ID tokens are known to speak of the same user of the same issuer (OpenID Connect Core §2). */
export function sameSubject(idToken: string | undefined, other: string | undefined): boolean {
  const subject = subjectOf(idToken)
  return subject !== undefined && subject === subjectOf(other)
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

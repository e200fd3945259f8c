/** An answer in place of what was asked for: a problem body (RFC 9457), which no cache keeps. */
export interface Problem {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** @param more further members of the body, by their names on the wire */
export function problem(status: number, title: string, detail: string, more: object = {}): Problem {
  const body = JSON.stringify({ type: 'about:blank', title, status, detail, ...more })
  return {
    status,
    headers: {
      'content-type': 'application/problem+json',
      'content-length': String(Buffer.byteLength(body)),
      'cache-control': 'no-store',
    },
    body,
  }
}

/** For whoever has no tokens. */
export function unauthorized(): Problem {
  return problem(401, 'Unauthorized', 'Log in first.')
}

/** A cookie that a request brings. */
export interface Cookie {
  readonly name: string
  readonly value: string
}

/** The cookies of a request whose names begin with a prefix, each name once. */
export function cookiesOf(header: string | undefined, prefix: string): Cookie[] {
  const cookies = new Map<string, string>()
  for (const part of (header ?? '').split(';')) {
    const at = part.indexOf('=')
    const name = part.slice(0, at).trim()
    if (at > 0 && name.startsWith(prefix)) cookies.set(name, part.slice(at + 1).trim())
  }
  return [...cookies].map(([name, value]) => ({ name, value }))
}

/**
 * The value of a cookie. Two cookies of one name count as none: one of them was set for another path or by another host, and
 * the header does not tell which.
 */
export function cookieOf(header: string | undefined, name: string): string | undefined {
  const values = (header ?? '').split(';').flatMap((part) => {
    const at = part.indexOf('=')
    return at > 0 && part.slice(0, at).trim() === name ? [part.slice(at + 1).trim()] : []
  })
  return values.length === 1 ? values[0] : undefined
}

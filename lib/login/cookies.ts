/** A cookie that a request brings. */
export interface Cookie {
  readonly name: string
  readonly value: string
}

/** Returns the cookies of a request whose names begin with a prefix, each name once. */
export function cookiesOf(header: string | undefined, prefix: string): Cookie[] {
  const cookies = pairsIn(header).filter(({ name }) => name.startsWith(prefix))
  return [...new Map(cookies.map((cookie) => [cookie.name, cookie])).values()]
}

/**
 * Returns the value of a cookie; `undefined` if two cookies have the name. One of the two was set for another path or by another
 * host, and the header does not tell which.
 */
export function cookieOf(header: string | undefined, name: string): string | undefined {
  const [found, another] = pairsIn(header).filter((cookie) => cookie.name === name)
  return another ? undefined : found?.value
}

/**
 * Returns the cookies of a header. Only spaces and tabs before a name are removed. A no-break space is part of the name: browsers
 * do not see a prefix such as `__Host-` behind it.
 */
function pairsIn(header = ''): Cookie[] {
  return header.split(';').flatMap((part) => {
    const pair = part.replace(/^[ \t]+/, '')
    const at = pair.indexOf('=')
    return at < 1 ? [] : [{ name: pair.slice(0, at), value: pair.slice(at + 1) }]
  })
}

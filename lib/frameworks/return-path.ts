/** Any origin will do: what is asked is whether a browser at it would stay there. */
const HERE = 'http://localhost'

/**
 * The path of this site that a browser may be sent to after its login, out of what came with the request: `returnTo` as
 * `requireTokens()` appends it to `loginPath`. What leads anywhere else gives `fallback`, so that nobody can make a link
 * to your login that ends at a site of theirs (an open redirect, RFC 9700 §4.11).
 *
 * @param value what the request brought; anything that is not a path of this site is not taken
 * @param fallback where to go instead. Default: `'/'`
 * @returns a path with its query and fragment, as browsers read it
 *
 * @example
 * app.get('/login', (req, res) => {
 *   req.session.returnTo = returnPath(req.query.returnTo)
 *   // … after the login: res.redirect(req.session.returnTo)
 * })
 */
export function returnPath(value: unknown, fallback = '/'): string {
  if (typeof value !== 'string' || !value.startsWith('/') || !URL.canParse(value, HERE)) return fallback
  const { origin, pathname, search, hash } = new URL(value, HERE)
  // A path of two slashes is another host to the browser that gets it.
  return origin === HERE && !pathname.startsWith('//') ? pathname + search + hash : fallback
}

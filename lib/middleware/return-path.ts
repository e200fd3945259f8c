/** A placeholder: it only serves to check whether a URL stays at its own origin. */
const HERE = 'http://localhost'

/**
 * Returns the path of this site to which a browser may be sent after its login. The path comes from the request: `returnTo`, as
 * `requireTokens()` appends it to `loginPath`. A value that leads to another site gives `fallback`, so that a link to your login
 * cannot end at an attacker's site (an open redirect, RFC 9700 §4.11).
 *
 * @param value the value in the request; anything but a path of this site gives `fallback`
 * @param fallback the path to go to instead. Default: `'/'`
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

import { ConfigurationError } from '../errors.js'

const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/

/**
 * Checks that secrets may be sent to a URL: absolute, https (plain http for the loopback interface alone, RFC 8252
 * §8.3), without credentials and fragment (RFC 6749 §3.2). Returns it unchanged; throws a `ConfigurationError`.
 *
 * @param option What to call the URL in the message, e.g. `tokenEndpoint`.
 */
export function endpointUrl(value: unknown, option: string): string {
  const flaw = flawOf(value)
  if (flaw) throw new ConfigurationError(`${option} ${flaw}`)
  return value as string
}

/** An endpoint as messages show it: without its query, which may hold anything. */
export function shownUrl(url: string): string {
  const { origin, pathname } = new URL(url)
  return origin + pathname
}

/** Whether an endpoint is on this machine. Such requests never go through a proxy. */
export function isPlainHttp(url: string): boolean {
  return new URL(url).protocol === 'http:'
}

function flawOf(value: unknown): string | undefined {
  const example = 'such as https://idp.example.com/oauth2/token'
  if (typeof value !== 'string' || /\s/.test(value) || !URL.canParse(value)) {
    return `must be an absolute URL, ${example}`
  }
  const url = new URL(value)
  if (url.username !== '' || url.password !== '') {
    return 'must not hold a user name or password; give clientId and clientAuthentication instead'
  }
  if (value.includes('#')) return 'must not have a fragment; leave out the # and what follows it'
  if (url.protocol === 'https:') return undefined
  if (url.protocol === 'http:' && LOOPBACK.test(url.hostname)) return undefined
  if (url.protocol === 'http:') {
    return (
      `must use https, because tokens and secrets are sent there: https://${url.host}${url.pathname}. ` +
      'Plain http is for localhost, 127.0.0.1 and [::1] alone'
    )
  }
  return `must use https, ${example}`
}

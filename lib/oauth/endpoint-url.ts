import { ConfigurationError } from '../errors.js'
import { ownProperties } from '../own-properties.js'
import { redact } from '../redact.js'
import { shownText } from './foreign-text.js'

const EXAMPLES: Readonly<Record<string, string>> = ownProperties({
  issuer: 'https://idp.example.com',
  revocationEndpoint: 'https://idp.example.com/oauth2/revoke',
  jwksUri: 'https://idp.example.com/oauth2/jwks',
})
const MAX_SHOWN_LENGTH = 200
/** A shorter one is in many a URL by chance. */
const MIN_SECRET_LENGTH = 6
const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/

/**
 * Checks that secrets may be sent to a URL: absolute, https (plain http for the loopback interface alone, RFC 8252
 * §8.3), without credentials and fragment (RFC 6749 §3.2). Returns it unchanged; throws a `ConfigurationError`.
 *
 * @param option The option that the URL was given in, e.g. `tokenEndpoint`.
 */
export function endpointUrl(value: unknown, option: string): string {
  const flaw = flawOfUrl(
    value,
    `, e.g. ${option}: '${EXAMPLES[option] ?? 'https://idp.example.com/oauth2/token'}'`,
  )
  if (flaw) throw new ConfigurationError(`\`${option}\` ${flaw}`)
  return value as string
}

/** An endpoint as messages show it: without its query, which may hold anything, and without secrets in its path. */
export function shownUrl(url: string, secrets: readonly string[]): string {
  const { origin, pathname } = new URL(url)
  const hidden = secrets.filter(({ length }) => length >= MIN_SECRET_LENGTH)
  return redact(origin + pathname, hidden)
}

/** Whether an endpoint is on this machine. Such requests never go through a proxy. */
export function isPlainHttp(url: string): boolean {
  return new URL(url).protocol === 'http:'
}

/**
 * What is wrong with a URL that secrets are to be sent to, as the end of a sentence.
 *
 * @param example Goes behind "must be an absolute https URL".
 * @param secrets Strings that the flaw must not show, for a URL that comes from outside.
 */
export function flawOfUrl(
  value: unknown,
  example: string,
  secrets: readonly string[] = [],
): string | undefined {
  if (typeof value !== 'string' || /\s/.test(value) || !URL.canParse(value)) {
    return `must be an absolute https URL${example}.`
  }
  const url = new URL(value)
  if (url.username !== '' || url.password !== '') {
    return 'must not hold a user name or password. Give clientId and clientAuthentication instead.'
  }
  if (value.includes('#')) return 'must not have a fragment. Leave out the # and what follows it.'
  if (url.protocol === 'https:') return undefined
  if (url.protocol === 'http:' && LOOPBACK.test(url.hostname)) return undefined
  if (url.protocol !== 'http:') return `must use https${example}.`
  const [withoutQuery = ''] = value.split('?')
  const shown = shownText(withoutQuery, secrets, MAX_SHOWN_LENGTH)
  return (
    `must use https, because tokens and secrets are sent there, but is '${shown}'. ` +
    'Plain http is for localhost, 127.0.0.1 and [::1] alone.'
  )
}

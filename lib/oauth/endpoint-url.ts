import { redact, safeExcerpt } from '../errors/redact.js'
import { ConfigurationError } from '../errors/token-error.js'
import { ownProperties } from '../options/own-properties.js'

const EXAMPLES: Readonly<Record<string, string>> = ownProperties({
  issuer: 'https://idp.example.com',
  revocationEndpoint: 'https://idp.example.com/oauth2/revoke',
  jwksUri: 'https://idp.example.com/oauth2/jwks',
})
const MAX_SHOWN_LENGTH = 200
/** A shorter secret may be part of a URL by chance. */
const MIN_SECRET_LENGTH = 6
const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/

/**
 * Checks that secrets may be sent to a URL: absolute, https (plain http for the loopback interface alone, RFC 8252
 * §8.3), without credentials and fragment (RFC 6749 §3.2). Returns the URL unchanged.
 *
 * @param option The name of the option, e.g. `tokenEndpoint`.
 * @throws `ConfigurationError` with a message that says what to change
 */
export function endpointUrl(value: unknown, option: string): string {
  const flaw = flawOfUrl(
    value,
    `, e.g. ${option}: '${EXAMPLES[option] ?? 'https://idp.example.com/oauth2/token'}'`,
  )
  if (flaw) throw new ConfigurationError(`\`${option}\` ${flaw}`)
  return value as string
}

/** Makes a URL safe for messages: without its query, which may hold anything, and without secrets in its path. */
export function safeUrl(url: string, secrets: readonly string[]): string {
  const { origin, pathname } = new URL(url)
  const hidden = secrets.filter(({ length }) => length >= MIN_SECRET_LENGTH)
  return redact(origin + pathname, hidden)
}

/**
 * Returns the flaw of a URL to which secrets are to be sent, as the end of a sentence; `undefined` if the URL has no flaw.
 *
 * @param example Follows "must be an absolute https URL".
 * @param secrets Strings that the text must not show, for a URL that a server sent.
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
  const shown = safeExcerpt(withoutQuery, secrets, MAX_SHOWN_LENGTH)
  return (
    `must use https, because tokens and secrets are sent there, but is '${shown}'. ` +
    'Plain http is for localhost, 127.0.0.1 and [::1] alone.'
  )
}

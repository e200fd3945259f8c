import { ConfigurationError, TokenError } from '../errors/token-error.js'

/**
 * Returns the origins that may see the token.
 *
 * @throws `ConfigurationError` unless each is named by an absolute http or https URL
 */
export function namedOrigins(baseURL: string, allowedOrigins: readonly string[] = []): ReadonlySet<string> {
  if (!Array.isArray(allowedOrigins)) {
    throw new ConfigurationError(
      "`allowedOrigins` must be an array of origins, e.g. allowedOrigins: ['https://files.example.com'].",
    )
  }
  const origins = new Set([baseURL, ...allowedOrigins].map(configuredOrigin))
  requireNoCredentials(baseURL)
  return origins
}

/** @throws `ConfigurationError` unless a client certificate can be sent to each origin */
export function requireHttps(origins: Iterable<string>): void {
  for (const origin of origins) {
    if (origin.startsWith('https:')) continue
    throw new ConfigurationError(
      '`clientCertificate` needs https: name the API, and each allowed origin, by an https URL.',
    )
  }
}

function configuredOrigin(url: unknown): string {
  const origin = typeof url === 'string' ? originOf(url) : undefined
  if (origin !== undefined) return origin
  throw new ConfigurationError(
    'baseURL and allowedOrigins must be absolute http or https URLs, e.g. baseURL: "https://api.example.com".',
  )
}

/** Refuses the URL of a request unless its origin may see the token. */
export function requireNamedOrigin(url: string, origins: ReadonlySet<string>): void {
  const origin = originOf(url)
  if (origin === undefined) {
    throw new ConfigurationError(
      'The URL of the request is not an absolute http or https URL once url is appended to baseURL. Check its url.',
    )
  }
  if (!origins.has(origin)) {
    throw new TokenError(
      'ERR_ORIGIN_NOT_ALLOWED',
      'The access token must not be sent to the origin of this call. Add the origin to allowedOrigins if that is wanted.',
      { details: origin },
    )
  }
  requireNoCredentials(url)
}

function requireNoCredentials(url: string): void {
  const { username, password } = new URL(url)
  if (username === '' && password === '') return
  throw new ConfigurationError(
    'The URL holds a user name or a password, which would be sent in place of the access token. Leave them out.',
  )
}

/** Returns the origin of an absolute http or https URL. */
export function originOf(url: string): string | undefined {
  if (!URL.canParse(url)) return undefined
  const { origin, protocol } = new URL(url)
  return /^https?:$/.test(protocol) ? origin : undefined
}

import { ConfigurationError } from '../errors.js'
import { ownProperties } from '../own-properties.js'
import { endpointUrl, flawOfUrl, shownUrl } from './endpoint-url.js'
import { isUnavailable, unavailableError } from './error-response.js'
import { type Fields, isFields } from './fields.js'
import { shownText } from './foreign-text.js'
import type { SendHttp } from './http.js'

/** What is used of an authorization server's metadata (RFC 8414 §2, OpenID Connect Discovery 1.0 §3). */
export interface Metadata {
  readonly issuer: string
  readonly tokenEndpoint: string
  readonly revocationEndpoint?: string
  readonly jwksUri?: string
}

const CURE = 'Check the option issuer, or give tokenEndpoint and revocationEndpoint instead.'

/** How metadata is fetched. */
export interface MetadataSource {
  readonly send: SendHttp
  readonly now: () => number
  /** Strings that no error may show: what each request is sent with. */
  readonly secrets: readonly string[]
  /** How long each of the two fetches may take. No caller's signal ends them. Default: 10 seconds. */
  readonly timeoutMs?: number
}

/**
 * Fetches an issuer's metadata when it is first needed, once for all who ask meanwhile, and keeps it. A failure is
 * not kept. Looks at `<issuer>/.well-known/openid-configuration` first, then where RFC 8414 §3 puts it.
 *
 * Rejects with `ERR_TOKEN_ENDPOINT_UNAVAILABLE` when the server cannot be reached, and with a `ConfigurationError` when
 * there is no metadata, or it is of another issuer.
 */
export function metadataOf(issuer: string, source: MetadataSource): () => Promise<Metadata> {
  let metadata: Promise<Metadata> | undefined
  return () => {
    if (metadata) return metadata
    const fetched = fetchMetadata(issuer, source)
    metadata = fetched
    fetched.catch(() => {
      if (metadata === fetched) metadata = undefined
    })
    return fetched
  }
}

/** Checks an issuer identifier: an endpoint's URL without a query (RFC 8414 §2). Returns it unchanged. */
export function issuerUrl(value: unknown): string {
  const issuer = endpointUrl(value, 'issuer')
  if (issuer.includes('?'))
    throw new ConfigurationError('`issuer` must not have a query. Leave out the ? and what follows it.')
  return issuer
}

async function fetchMetadata(issuer: string, source: MetadataSource): Promise<Metadata> {
  const urls = wellKnownUrls(issuer)
  for (const url of urls) {
    const fields = await fetchFields(url, source)
    if (fields) return checkedMetadata(fields, issuer, shownUrl(url, source.secrets), source.secrets)
  }
  const places = urls.map((url) => shownUrl(url, source.secrets)).join(' or ')
  throw new ConfigurationError(`There is no authorization server metadata at ${places}. ${CURE}`)
}

function wellKnownUrls(issuer: string): string[] {
  const { origin, pathname } = new URL(issuer)
  const path = pathname.replace(/\/$/, '')
  return [
    `${origin}${path}/.well-known/openid-configuration`,
    `${origin}/.well-known/oauth-authorization-server${path}`,
  ]
}

/** The metadata at a URL, `undefined` when there is none. */
async function fetchFields(
  url: string,
  { send, now, secrets, timeoutMs = 10_000 }: MetadataSource,
): Promise<Fields | undefined> {
  const what = `The authorization server's metadata at ${shownUrl(url, secrets)}`
  const answer = await send({
    what,
    method: 'GET',
    url,
    headers: { Accept: 'application/json' },
    secrets,
    signal: AbortSignal.timeout(timeoutMs),
  })
  if (isUnavailable(answer)) throw unavailableError(answer, { what, now: now() })
  if (answer.status !== 200 || !('text' in answer.body)) return undefined
  return parsed(answer.body.text)
}

function parsed(text: string): Fields | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return isFields(value) ? ownProperties(value) : undefined
  } catch {
    return undefined
  }
}

/** @param place The metadata's URL, as messages show it. */
function checkedMetadata(
  fields: Fields,
  issuer: string,
  place: string,
  secrets: readonly string[],
): Metadata {
  if (fields.issuer !== issuer) {
    const theirs = typeof fields.issuer === 'string' ? `"${shownText(fields.issuer, secrets, 200)}"` : 'none'
    throw new ConfigurationError(
      `The metadata at ${place} is of another issuer: ${theirs}, not "${issuer}" (they must be identical, RFC 8414 §3.3). ${CURE}`,
    )
  }
  const endpoint = (name: string) => {
    const flaw = flawOfUrl(fields[name], '', secrets)
    if (flaw) throw new ConfigurationError(`The ${name} in the metadata at ${place} ${flaw} ${CURE}`)
    return fields[name] as string
  }
  const optional = (name: string) => (typeof fields[name] === 'string' ? endpoint(name) : undefined)
  const tokenEndpoint = endpoint('token_endpoint')
  const revocationEndpoint = optional('revocation_endpoint')
  const jwksUri = optional('jwks_uri')
  return {
    issuer,
    tokenEndpoint,
    ...(revocationEndpoint !== undefined && { revocationEndpoint }),
    ...(jwksUri !== undefined && { jwksUri }),
  }
}

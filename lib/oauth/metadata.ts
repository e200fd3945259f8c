import { safeExcerpt } from '../errors/redact.js'
import { ConfigurationError } from '../errors/token-error.js'
import { isJsonObject, type JsonObject, ownProperties, parseJsonObject } from '../options/own-properties.js'
import { endpointUrl, flawOfUrl, safeUrl } from './endpoint-url.js'
import type { SendHttp } from './http.js'
import { isUnavailable, unavailableError } from './token-endpoint/error-response.js'

/** The part of an authorization server's metadata that is used (RFC 8414 §2, OpenID Connect Discovery 1.0 §3). */
export interface Metadata {
  readonly issuer: string
  readonly tokenEndpoint: string
  readonly revocationEndpoint?: string
  readonly jwksUri?: string
  /** OpenID Connect RP-Initiated Logout 1.0 §2.1. A URL without https is ignored, since only a logout needs it. */
  readonly endSessionEndpoint?: string
  /** The endpoints that clients with a certificate use in place of those above (`mtls_endpoint_aliases`, RFC 8705 §5). */
  readonly mtlsAliases?: { readonly tokenEndpoint?: string; readonly revocationEndpoint?: string }
}

const CURE = 'Check the option issuer, or give tokenEndpoint and revocationEndpoint instead.'

/** How the metadata is fetched. */
export interface MetadataSource {
  readonly send: SendHttp
  readonly now: () => number
  /** Strings that no error may show: the headers of each request. */
  readonly secrets: readonly string[]
  /** How long each of the two fetches may take. A caller's signal does not abort them. Default: 10 seconds. */
  readonly timeoutMs?: number
}

/**
 * Fetches an issuer's metadata on the first call, and keeps it, see {@link keptMetadata}. Tries
 * `<issuer>/.well-known/openid-configuration` first, then the URL of RFC 8414 §3.
 *
 * Rejects with `ERR_TOKEN_ENDPOINT_UNAVAILABLE` when the server cannot be reached, and with a `ConfigurationError` when there is
 * no metadata, or the metadata is of another issuer.
 */
export function metadataOf(issuer: string, source: MetadataSource): KeptMetadata<Metadata> {
  return keptMetadata(() => fetchMetadata(issuer, source), source.now)
}

/** Metadata that is fetched once, and again when it may have changed. */
export interface KeptMetadata<T> {
  /** Returns the metadata: the value itself once it has been fetched. */
  get(): T | Promise<T>
  /** Notes the status of an endpoint's response. After one that says that the endpoint has moved, the metadata is fetched again. */
  noteStatus(status: number): void
}

/** The age after which metadata is fetched again. */
const OLD_MS = 24 * 60 * 60 * 1000
/** The least time between two fetches. An endpoint that has not moved may go on responding with such a status. */
const LEAST_MS = 60_000
/** The statuses of an endpoint that is not there any more. */
const MOVED: readonly number[] = [301, 302, 303, 307, 308, 404, 405, 410]

/**
 * Fetches metadata on the first call, and keeps it. Concurrent calls share one fetch. A failure is not kept: the next call fetches
 * again.
 *
 * The metadata is fetched again after a day, and when an endpoint has moved. No caller waits for this, and the old metadata stays
 * until the new one is there.
 */
export function keptMetadata<T>(fetch: () => Promise<T>, now: () => number): KeptMetadata<T> {
  let kept: { readonly metadata: T; readonly at: number } | undefined
  let first: Promise<T> | undefined
  let triedAt = 0
  const isPast = (time: number, ms: number) => Math.abs(now() - time) > ms
  const fetchAndKeep = async () => {
    triedAt = now()
    const metadata = await fetch()
    kept = { metadata, at: now() }
    return metadata
  }
  const fetchAgain = () => {
    if (isPast(triedAt, LEAST_MS)) fetchAndKeep().catch(() => {})
  }
  return {
    get() {
      if (!kept) {
        first ??= fetchAndKeep().finally(() => {
          first = undefined
        })
        return first
      }
      if (isPast(kept.at, OLD_MS)) fetchAgain()
      return kept.metadata
    },
    noteStatus(status) {
      if (kept && MOVED.includes(status)) fetchAgain()
    },
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
    if (fields) return checkedMetadata(fields, issuer, url, source.secrets)
  }
  const places = urls.map((url) => safeUrl(url, source.secrets)).join(' or ')
  throw new ConfigurationError(`The issuer has no authorization server metadata. ${CURE}`, {
    details: places,
  })
}

function wellKnownUrls(issuer: string): string[] {
  const { origin, pathname } = new URL(issuer)
  const path = pathname.replace(/\/$/, '')
  return [
    `${origin}${path}/.well-known/openid-configuration`,
    `${origin}/.well-known/oauth-authorization-server${path}`,
  ]
}

/**
 * Fetches the metadata at a URL. Resolves with `undefined` for a status other than 200, and for a body that is no JSON object.
 *
 * @throws `ERR_TOKEN_ENDPOINT_UNAVAILABLE` if there is no response, or a 5xx, 408 or 429
 */
async function fetchFields(
  url: string,
  { send, now, secrets, timeoutMs = 10_000 }: MetadataSource,
): Promise<JsonObject | undefined> {
  const describe = () => "The authorization server's metadata"
  const where = () => safeUrl(url, secrets)
  const response = await send({
    describe,
    where,
    method: 'GET',
    url,
    headers: { Accept: 'application/json' },
    secrets: () => secrets,
    signal: AbortSignal.timeout(timeoutMs),
  })
  if (isUnavailable(response)) throw unavailableError(response, { describe, where, now: now() })
  if (response.status !== 200 || !('text' in response.body)) return undefined
  return parseJsonObject(response.body.text)
}

/** @param url The URL of the metadata. */
function checkedMetadata(
  fields: JsonObject,
  issuer: string,
  url: string,
  secrets: readonly string[],
): Metadata {
  if (fields.issuer !== issuer) {
    const found = typeof fields.issuer === 'string' ? `"${safeExcerpt(fields.issuer, secrets, 200)}"` : 'none'
    throw new ConfigurationError(
      `The metadata of the authorization server are of another issuer (they must be identical, RFC 8414 §3.3). ${CURE}`,
      { details: `${safeUrl(url, secrets)} has the issuer ${found}, not "${issuer}"` },
    )
  }
  const endpoint = (name: string) => {
    const flaw = flawOfUrl(fields[name], '', secrets)
    if (flaw) {
      throw new ConfigurationError(
        `The ${name} in the metadata of the authorization server must use https, without credentials and fragment. ${CURE}`,
        { details: `${safeUrl(url, secrets)}: the ${name} ${flaw}` },
      )
    }
    return fields[name] as string
  }
  const optional = (name: string) => (typeof fields[name] === 'string' ? endpoint(name) : undefined)
  const tokenEndpoint = endpoint('token_endpoint')
  const revocationEndpoint = optional('revocation_endpoint')
  const jwksUri = optional('jwks_uri')
  const endSession = fields.end_session_endpoint
  const hasEndSession = typeof endSession === 'string' && !flawOfUrl(endSession, '', secrets)
  const mtlsAliases = aliasesIn(fields.mtls_endpoint_aliases, secrets)
  return {
    issuer,
    tokenEndpoint,
    ...(mtlsAliases && { mtlsAliases }),
    ...(revocationEndpoint !== undefined && { revocationEndpoint }),
    ...(jwksUri !== undefined && { jwksUri }),
    ...(hasEndSession && { endSessionEndpoint: endSession }),
  }
}

/** Reads the endpoints for clients with a certificate. A URL without https is ignored, since few clients need it. */
function aliasesIn(value: unknown, secrets: readonly string[]): Metadata['mtlsAliases'] {
  if (!isJsonObject(value)) return undefined
  const { token_endpoint: token, revocation_endpoint: revocation } = ownProperties(value)
  const isUsable = (url: unknown): url is string => typeof url === 'string' && !flawOfUrl(url, '', secrets)
  return {
    ...(isUsable(token) && { tokenEndpoint: token }),
    ...(isUsable(revocation) && { revocationEndpoint: revocation }),
  }
}

import { createSecretKey, type KeyObject, randomUUID, type webcrypto } from 'node:crypto'
import { type JWK, SignJWT } from 'jose'
import { ConfigurationError } from '../errors.js'
import { ownOptions } from '../own-options.js'
import { type SigningKey, signingKey } from './private-key.js'

/** What a {@link ClientAuthentication} is told of the request that it is to authenticate. */
export interface ClientAuthenticationRequest {
  /** The `clientId` of the middleware. */
  readonly clientId: string
  /** The authorization server's issuer identifier, when the middleware knows it. */
  readonly issuer?: string
  /** The token endpoint, also when the request goes to another endpoint. */
  readonly tokenEndpoint: string
  /** Where the request goes: the token, refresh or revocation endpoint. */
  readonly endpoint: string
  /** The time, in milliseconds since the epoch. */
  readonly now: number
}

/** What a {@link ClientAuthentication} adds to a request. */
export interface ClientCredentials {
  readonly headers?: Readonly<Record<string, string>>
  /** Parameters of the form, sent in this order. */
  readonly parameters?: Readonly<Record<string, string>>
  /**
   * Further strings that errors must not show. The values of `headers` and `parameters` need not be repeated here,
   * but what went into them does: a secret that a header holds in Base64.
   */
  readonly secrets?: readonly string[]
}

/**
 * Authenticates the client to the authorization server (RFC 6749 §2.3): adds headers or form parameters to a request.
 * Called anew for each request. Write a function of your own for a method that is not here:
 *
 * ```ts
 * const viaGateway: ClientAuthentication = ({ clientId }) => ({
 *   headers: { 'X-Api-Key': process.env.API_KEY! },
 *   parameters: { client_id: clientId },
 * })
 * ```
 *
 * When the function fails, nothing is sent, and the caller gets `ERR_TOKEN_ENDPOINT_UNAVAILABLE`, whatever it failed with:
 * nobody is logged out by it. A `ConfigurationError` is passed on.
 */
export type ClientAuthentication = (
  request: ClientAuthenticationRequest,
) => ClientCredentials | Promise<ClientCredentials>

/** The options of the methods that send a JWT (RFC 7523 §2.2). */
export interface FormClientIdOption {
  /** The form's `client_id`, for servers that want something other than the client id there. Default: the client id. */
  readonly formClientId?: string
}

/** The options of the methods that sign a JWT. */
export interface SignedAssertionOptions extends FormClientIdOption {
  /** The `aud` of the JWT. Default: the issuer when it is known, else the token endpoint. */
  readonly audience?: string
  /** How long the JWT is valid, in milliseconds. Default: 60 000. */
  readonly lifetimeMs?: number
}

const FORM_OPTIONS = ['formClientId'] as const satisfies readonly (keyof FormClientIdOption)[]
const SIGNED_OPTIONS = [
  ...FORM_OPTIONS,
  ...(['audience', 'lifetimeMs'] as const),
] as const satisfies readonly (keyof SignedAssertionOptions)[]
const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'

/**
 * Authenticates with HTTP Basic: sends `Authorization: Basic`, the client id and the secret each form-encoded first
 * (RFC 6749 §2.3.1).
 *
 * @param options `formEncode: false` sends both as they are, for servers that do not decode them.
 * @throws `ConfigurationError` when the secret is not a string or is empty.
 *
 * @example
 * clientAuthentication: clientSecretBasic(process.env.CLIENT_SECRET)
 */
export function clientSecretBasic(
  secret: string | undefined,
  options: { readonly formEncode?: boolean } = {},
): ClientAuthentication {
  const { formEncode } = checkedNames(options, ['formEncode'], 'clientSecretBasic')
  const checked = checkedSecret(secret, 'clientSecretBasic')
  const encode = formEncode === false ? (text: string) => text : formEncoded
  return ({ clientId }) => {
    if (formEncode === false && clientId.includes(':')) {
      throw new ConfigurationError(
        'clientSecretBasic: a clientId with a colon cannot be sent without form encoding. Leave out formEncode: false.',
      )
    }
    const credentials = Buffer.from(`${encode(clientId)}:${encode(checked)}`).toString('base64')
    return { headers: { Authorization: `Basic ${credentials}` }, secrets: [checked, credentials] }
  }
}

/**
 * Authenticates in the form: sends `client_id` and `client_secret` (RFC 6749 §2.3.1).
 *
 * @throws `ConfigurationError` when the secret is not a string or is empty.
 *
 * @example
 * clientAuthentication: clientSecretPost(process.env.CLIENT_SECRET)
 */
export function clientSecretPost(secret: string | undefined): ClientAuthentication {
  const checked = checkedSecret(secret, 'clientSecretPost')
  return ({ clientId }) => ({ parameters: { client_id: clientId, client_secret: checked } })
}

/**
 * Authenticates with a JWT that is signed with the client secret: sends `client_id`, `client_assertion_type` and
 * `client_assertion` (RFC 7523 §2.2). Each request gets a JWT of its own, with a fresh `jti`.
 *
 * @param options `alg`: `HS256` (default), `HS384` or `HS512`; and {@link SignedAssertionOptions}.
 * @throws `ConfigurationError` when the secret or an option will not do.
 *
 * @example
 * clientAuthentication: clientSecretJwt(process.env.CLIENT_SECRET)
 */
export function clientSecretJwt(
  secret: string | undefined,
  options: SignedAssertionOptions & { readonly alg?: 'HS256' | 'HS384' | 'HS512' } = {},
): ClientAuthentication {
  const own = checkedNames(options, [...SIGNED_OPTIONS, 'alg'], 'clientSecretJwt')
  const checked = checkedSecret(secret, 'clientSecretJwt')
  const alg = own.alg ?? 'HS256'
  if (!['HS256', 'HS384', 'HS512'].includes(alg)) {
    throw new ConfigurationError('clientSecretJwt: alg must be HS256, HS384 or HS512.')
  }
  const key = createSecretKey(Buffer.from(checked))
  return signedAssertion({ key, alg }, own, 'clientSecretJwt', [checked])
}

/**
 * Authenticates with a JWT that is signed with a private key: sends `client_id`, `client_assertion_type` and
 * `client_assertion` (RFC 7523 §2.2). Each request gets a JWT of its own, with a fresh `jti`.
 *
 * @param key A `CryptoKey`, a `KeyObject`, a JWK or a PKCS#8 PEM string.
 * @param options `alg`: default what fits the key (`RS256`, `ES256`, `EdDSA`, …); `kid`: default the JWK's; and
 *   {@link SignedAssertionOptions}.
 * @throws `ConfigurationError` when the key or an option will not do.
 *
 * @example
 * clientAuthentication: privateKeyJwt(process.env.PRIVATE_KEY, { alg: 'RS256', kid: '2024-06' })
 */
export function privateKeyJwt(
  key: webcrypto.CryptoKey | KeyObject | JWK | string | undefined,
  options: SignedAssertionOptions & { readonly alg?: string; readonly kid?: string } = {},
): ClientAuthentication {
  const own = checkedNames(options, [...SIGNED_OPTIONS, 'alg', 'kid'], 'privateKeyJwt')
  return signedAssertion(signingKey(key, own.alg, own.kid), own, 'privateKeyJwt', [])
}

/**
 * Authenticates with a JWT that somebody else made, e.g. the identity provider or the platform: sends `client_id`,
 * `client_assertion_type` and `client_assertion` (RFC 7523 §2.2).
 *
 * @param jwt The JWT, or a function that answers with the current one and is called for each request.
 * @throws `ConfigurationError` when the JWT is neither, or empty.
 *
 * @example
 * clientAuthentication: clientAssertion(() => readFile('/var/run/secrets/tokens/idp', 'utf8'))
 */
export function clientAssertion(
  jwt: string | (() => string | Promise<string>) | undefined,
  options: FormClientIdOption = {},
): ClientAuthentication {
  const own = checkedNames(options, FORM_OPTIONS, 'clientAssertion')
  if (typeof jwt !== 'function') checkedJwt(jwt)
  checkFormClientId(own.formClientId, 'clientAssertion')
  return async ({ clientId }) => {
    const current = checkedJwt(typeof jwt === 'function' ? await jwt() : jwt)
    return assertionParameters(clientId, current, own, [])
  }
}

/**
 * Does not authenticate: sends `client_id` alone, for a client that has no secret (RFC 6749 §2.1, §3.2.1).
 *
 * @example
 * clientAuthentication: publicClient()
 */
export function publicClient(): ClientAuthentication {
  return ({ clientId }) => ({ parameters: { client_id: clientId } })
}

function signedAssertion(
  { key, alg, kid }: SigningKey,
  options: SignedAssertionOptions,
  name: string,
  secrets: readonly string[],
): ClientAuthentication {
  const { audience, lifetimeMs = 60_000 } = options
  checkFormClientId(options.formClientId, name)
  if (audience !== undefined && (typeof audience !== 'string' || audience === '')) {
    throw new ConfigurationError(`${name}: audience must be a string that is not empty, or left out.`)
  }
  if (!Number.isFinite(lifetimeMs) || lifetimeMs < 1000) {
    throw new ConfigurationError(
      `${name}: lifetimeMs must be a number of milliseconds, 1000 or more, e.g. lifetimeMs: 60000.`,
    )
  }
  return async ({ clientId, issuer, tokenEndpoint, now }) => {
    const assertion = await new SignJWT()
      .setProtectedHeader({ alg, ...(kid !== undefined && { kid }) })
      .setIssuer(clientId)
      .setSubject(clientId)
      .setAudience(audience ?? issuer ?? tokenEndpoint)
      .setJti(randomUUID())
      .setIssuedAt(Math.floor(now / 1000))
      .setExpirationTime(Math.floor((now + lifetimeMs) / 1000))
      .sign(key)
    return assertionParameters(clientId, assertion, options, secrets)
  }
}

function assertionParameters(
  clientId: string,
  assertion: string,
  { formClientId }: FormClientIdOption,
  secrets: readonly string[],
): ClientCredentials {
  return {
    parameters: {
      client_id: formClientId ?? clientId,
      client_assertion_type: ASSERTION_TYPE,
      client_assertion: assertion,
    },
    // What stands in for the client id may have the secret in it.
    secrets: formClientId === undefined ? secrets : [...secrets, formClientId],
  }
}

/** application/x-www-form-urlencoded (RFC 6749 appendix B). */
function formEncoded(text: string): string {
  return new URLSearchParams([['', text]]).toString().slice(1)
}

function checkedSecret(secret: unknown, name: string): string {
  if (typeof secret === 'string' && secret !== '') return secret
  const got = secret === '' ? 'an empty string' : secret === undefined ? 'undefined' : `a ${typeof secret}`
  throw new ConfigurationError(
    `${name}: the client secret must be a string that is not empty, got ${got}. ` +
      'Is the environment variable set? A client without a secret uses publicClient().',
  )
}

function checkedJwt(jwt: unknown): string {
  const trimmed = typeof jwt === 'string' ? jwt.trim() : ''
  if (trimmed !== '') return trimmed
  throw new ConfigurationError(
    'clientAssertion: the assertion must be a JWT, or a function that answers with one, but there was none. ' +
      'To sign assertions with a key of your own, use privateKeyJwt(key).',
  )
}

function checkedNames<Options extends object>(
  options: Options,
  allowed: readonly (keyof Options & string)[],
  name: string,
): Options {
  if (typeof options !== 'object' || options === null) {
    throw new ConfigurationError(
      `The options of ${name}() must be an object of ${allowed.join(', ')}, or left out.`,
    )
  }
  return ownOptions(options, allowed, `${name}()`)
}

function checkFormClientId(formClientId: unknown, name: string): void {
  if (formClientId === undefined || (typeof formClientId === 'string' && formClientId !== '')) return
  throw new ConfigurationError(`${name}: formClientId must be a string that is not empty, or left out.`)
}

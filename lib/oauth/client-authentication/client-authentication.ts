import { createSecretKey, type KeyObject, randomUUID, type webcrypto } from 'node:crypto'
import { type JWK, SignJWT } from 'jose'
import { ConfigurationError, type TokenError } from '../../errors/token-error.js'
import { duration, flag, oneOf, optional, text, unchecked } from '../../options/option-kinds.js'
import { type Checked, checkOptions, type OptionTable } from '../../options/option-table.js'
import type { ClientCertificate } from '../../tokens/client-certificate.js'
import { type SigningKey, signingKey } from './private-key.js'
import { authenticationOver, type RotatedSecret } from './rotated-secret.js'

/** The request that a {@link ClientAuthentication} is to authenticate. */
export interface ClientAuthenticationRequest {
  /** The `clientId` of the middleware. */
  readonly clientId: string
  /** The authorization server's issuer identifier, if it is configured. */
  readonly issuer?: string
  /** The token endpoint, also when the request goes to another endpoint. */
  readonly tokenEndpoint: string
  /** The endpoint of the request: the token, refresh or revocation endpoint. */
  readonly endpoint: string
  /** The time, in milliseconds since the epoch. */
  readonly now: number
  /** Tells the operator, by the event `secret_failed`, that the function of a secret has failed. */
  readonly onSecretFailed?: (error: TokenError, hasLast: boolean) => void
}

/** The headers and parameters that a {@link ClientAuthentication} adds to a request. */
export interface ClientCredentials {
  readonly headers?: Readonly<Record<string, string>>
  /** Parameters of the form, sent in this order. */
  readonly parameters?: Readonly<Record<string, string>>
  /**
   * Further strings that errors must not show. The values of `headers` and `parameters` need not be repeated here. A secret that
   * they hold in another form must be given, such as a secret in Base64.
   */
  readonly secrets?: readonly string[]
  /** The client certificate of the connection (RFC 8705). */
  readonly certificate?: ClientCertificate
}

/**
 * Authenticates the client to the authorization server (RFC 6749 §2.3): adds headers or form parameters to a request.
 * Called for each request. For any other method write a function:
 *
 * ```ts
 * const viaGateway: ClientAuthentication = ({ clientId }) => ({
 *   headers: { 'X-Api-Key': process.env.API_KEY! },
 *   parameters: { client_id: clientId },
 * })
 * ```
 *
 * When the function fails, nothing is sent, and the caller gets `ERR_TOKEN_ENDPOINT_UNAVAILABLE`, whatever the failure: it
 * logs no user out. A `ConfigurationError` is passed on.
 */
export type ClientAuthentication = (
  request: ClientAuthenticationRequest,
) => ClientCredentials | Promise<ClientCredentials>

/** The option of the methods that send a client assertion, a JWT (RFC 7523 §2.2). */
export interface FormClientIdOption {
  /** The form's `client_id`, for servers that expect another value than the client id. Default: the client id. */
  readonly formClientId?: string
}

/** The options of the methods that sign a client assertion, a JWT (RFC 7523 §2.2). */
export interface SignedAssertionOptions extends FormClientIdOption {
  /** The `aud` of each client assertion. Default: the issuer when it is known, else the token endpoint. */
  readonly audience?: string
  /** How long each client assertion is valid, in milliseconds. Default: 60,000. */
  readonly lifetimeMs?: number
}

const BASIC_OPTIONS = { formEncode: flag(true) }
const FORM_OPTIONS = { formClientId: optional(text('web')) } satisfies OptionTable<FormClientIdOption>
const SIGNED_OPTIONS = {
  ...FORM_OPTIONS,
  audience: optional(text('https://idp.example.com')),
  lifetimeMs: duration(60_000, { least: 1_000, most: Infinity }),
} satisfies OptionTable<SignedAssertionOptions>
const SECRET_JWT_OPTIONS = { ...SIGNED_OPTIONS, alg: oneOf(['HS256', 'HS384', 'HS512']) }
const KEY_JWT_OPTIONS = { ...SIGNED_OPTIONS, alg: unchecked, kid: unchecked }
const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'

/**
 * Authenticates with HTTP Basic: sends `Authorization: Basic`, the client id and the secret each form-encoded first
 * (RFC 6749 §2.3.1).
 *
 * @param secret The secret, or a function that returns it, so that it can change while the process runs. The function is called
 *   again when the last call was a minute ago. When it fails, the last secret is used, and the event `secret_failed` tells.
 * @param options `formEncode: false` sends both as they are, for servers that do not decode them.
 * @throws `ConfigurationError` when the secret is not a string or is empty.
 *
 * @example
 * clientAuthentication: clientSecretBasic(process.env.CLIENT_SECRET)
 */
export function clientSecretBasic(
  secret: RotatedSecret<string> | undefined,
  options: { readonly formEncode?: boolean } = {},
): ClientAuthentication {
  const { formEncode } = checkedOptions('clientSecretBasic', options, BASIC_OPTIONS)
  const encode = formEncode ? formEncoded : (text: string) => text
  let last: { readonly clientId: string; readonly secret: string; readonly credentials: string } | undefined
  return authenticationOver('clientSecretBasic', secret, checkedSecret, (secret, { clientId }) => {
    if (!formEncode && clientId.includes(':')) {
      throw new ConfigurationError(
        'clientSecretBasic: a clientId with a colon cannot be sent without form encoding. Leave out formEncode: false.',
      )
    }
    if (last?.clientId !== clientId || last.secret !== secret) {
      const credentials = Buffer.from(`${encode(clientId)}:${encode(secret)}`).toString('base64')
      last = { clientId, secret, credentials }
    }
    const { credentials } = last
    return { headers: { Authorization: `Basic ${credentials}` }, secrets: [secret, credentials] }
  })
}

/**
 * Authenticates in the form: sends `client_id` and `client_secret` (RFC 6749 §2.3.1).
 *
 * @param secret The secret, or a function that returns it, see {@link clientSecretBasic}.
 * @throws `ConfigurationError` when the secret is not a string or is empty.
 *
 * @example
 * clientAuthentication: clientSecretPost(process.env.CLIENT_SECRET)
 */
export function clientSecretPost(secret: RotatedSecret<string> | undefined): ClientAuthentication {
  return authenticationOver('clientSecretPost', secret, checkedSecret, (secret, { clientId }) => ({
    parameters: { client_id: clientId, client_secret: secret },
  }))
}

/**
 * Authenticates with a JWT that is signed with the client secret: sends `client_id`, `client_assertion_type` and
 * `client_assertion` (RFC 7523 §2.2). Each request gets a new JWT, with a new `jti`.
 *
 * @param secret The secret, or a function that returns it, see {@link clientSecretBasic}.
 * @param options `alg`: `HS256` (default), `HS384` or `HS512`; and {@link SignedAssertionOptions}.
 * @throws `ConfigurationError` when the secret or an option is invalid.
 *
 * @example
 * clientAuthentication: clientSecretJwt(process.env.CLIENT_SECRET)
 */
export function clientSecretJwt(
  secret: RotatedSecret<string> | undefined,
  options: SignedAssertionOptions & { readonly alg?: 'HS256' | 'HS384' | 'HS512' } = {},
): ClientAuthentication {
  const { alg, ...signing } = checkedOptions('clientSecretJwt', options, SECRET_JWT_OPTIONS)
  return authenticationOver('clientSecretJwt', secret, checkedSecret, (secret, request) =>
    signedAssertion({ key: createSecretKey(Buffer.from(secret)), alg }, signing, [secret], request),
  )
}

/**
 * Authenticates with a JWT that is signed with a private key: sends `client_id`, `client_assertion_type` and
 * `client_assertion` (RFC 7523 §2.2). Each request gets a new JWT, with a new `jti`.
 *
 * @param key A `CryptoKey`, a `KeyObject`, a JWK or a PKCS#8 PEM string, or a function that returns one, see
 *   {@link clientSecretBasic}. A JWK with a `kid` names the key that signs.
 * @param options `alg`: default the first that fits the key (`RS256`, `ES256`, `EdDSA`, …); `kid`: default the JWK's; and
 *   {@link SignedAssertionOptions}.
 * @throws `ConfigurationError` when the key or an option is invalid.
 *
 * @example
 * clientAuthentication: privateKeyJwt(process.env.PRIVATE_KEY, { alg: 'RS256', kid: '2024-06' })
 */
export function privateKeyJwt(
  key: RotatedSecret<webcrypto.CryptoKey | KeyObject | JWK | string> | undefined,
  options: SignedAssertionOptions & { readonly alg?: string; readonly kid?: string } = {},
): ClientAuthentication {
  const { alg, kid, ...signing } = checkedOptions('privateKeyJwt', options, KEY_JWT_OPTIONS)
  const check = (given: unknown) => signingKey(given, alg, kid)
  return authenticationOver('privateKeyJwt', key, check, (key, request) =>
    signedAssertion(key, signing, [], request),
  )
}

/**
 * Authenticates with a JWT from elsewhere, e.g. from the identity provider or the platform: sends `client_id`,
 * `client_assertion_type` and `client_assertion` (RFC 7523 §2.2).
 *
 * @param jwt The JWT, or a function that returns the current one and is called for each request.
 * @throws `ConfigurationError` when `jwt` is neither, or is empty.
 *
 * @example
 * clientAuthentication: clientAssertion(() => readFile('/var/run/secrets/tokens/idp', 'utf8'))
 */
export function clientAssertion(
  jwt: string | (() => string | Promise<string>) | undefined,
  options: FormClientIdOption = {},
): ClientAuthentication {
  const form = checkedOptions('clientAssertion', options, FORM_OPTIONS)
  if (typeof jwt !== 'function') checkedJwt(jwt)
  return async ({ clientId }) => {
    const current = checkedJwt(typeof jwt === 'function' ? await jwt() : jwt)
    return assertionParameters(clientId, current, form, [])
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

async function signedAssertion(
  { key, alg, kid }: SigningKey,
  options: Checked<SignedAssertionOptions, typeof SIGNED_OPTIONS>,
  secrets: readonly string[],
  { clientId, issuer, tokenEndpoint, now }: ClientAuthenticationRequest,
): Promise<ClientCredentials> {
  const { audience, lifetimeMs } = options
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
    // The value in place of the client id may hold the secret.
    secrets: formClientId === undefined ? secrets : [...secrets, formClientId],
  }
}

/** Encodes a text as application/x-www-form-urlencoded (RFC 6749 appendix B). */
function formEncoded(text: string): string {
  return new URLSearchParams([['', text]]).toString().slice(1)
}

function checkedSecret(secret: unknown, name: string): string {
  if (typeof secret === 'string' && secret !== '') return secret
  const got = secret === '' ? 'an empty string' : secret === undefined ? 'undefined' : `a ${typeof secret}`
  throw new ConfigurationError(
    `${name}: the client secret must be a string that is not empty, got ${got}. ` +
      'Is the environment variable set? For a client without a secret, use publicClient().',
  )
}

function checkedJwt(jwt: unknown): string {
  const trimmed = typeof jwt === 'string' ? jwt.trim() : ''
  if (trimmed !== '') return trimmed
  throw new ConfigurationError(
    'clientAssertion: the assertion must be a JWT, or a function that returns one, but it is empty or no string. ' +
      'To sign assertions with your private key, use privateKeyJwt(key).',
  )
}

function checkedOptions<Options extends object, Table extends OptionTable<Options>>(
  name: string,
  options: Options,
  table: Table,
): Checked<Options, Table> {
  const names = Object.keys(table).join(', ')
  return checkOptions(options, table, {
    of: `${name}()`,
    takes: `The options of ${name}() must be an object of ${names}, or left out`,
  })
}

import { ConfigurationError, TokenError } from '../errors.js'
import { ownProperties } from '../own-properties.js'
import type { FormParameters } from './form.js'

/** What every grant may ask for besides. Further parameters of a provider's own are sent along, e.g. `audience`. */
interface CommonParameters {
  /** Scopes, separated by spaces (RFC 6749 §3.3). */
  readonly scope?: string | undefined
  /** The APIs the token is for (RFC 8707). */
  readonly resource?: string | readonly string[] | undefined
  /**
   * The `nonce` of the authorization request (OpenID Connect Core §3.1.2.1). It is not sent: the ID token must have this
   * very one, and without an ID token the login is refused.
   */
  readonly nonce?: string
  /**
   * The `iss` of the callback (RFC 9207), if there is one. It is not sent: it must be the issuer, else the code goes nowhere.
   * It needs the option `issuer`.
   */
  readonly iss?: string | undefined
  readonly [parameter: string]: string | readonly string[] | undefined
}

/** The authorization code grant (RFC 6749 §4.1.3), with PKCE (RFC 7636 §4.5). */
export interface AuthorizationCodeRequest extends CommonParameters {
  readonly grant_type: 'authorization_code'
  readonly code: string
  /** The same as in the authorization request, if one was given there. */
  readonly redirect_uri?: string | undefined
  readonly code_verifier?: string | undefined
}

/** The resource owner password grant (RFC 6749 §4.3.2). */
export interface PasswordRequest extends CommonParameters {
  readonly grant_type: 'password'
  readonly username: string
  readonly password: string
}

/** The grant for a JWT about the user (RFC 7523 §2.1). */
export interface JwtBearerRequest extends CommonParameters {
  readonly grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer'
  readonly assertion: string
}

/** An extension grant (RFC 6749 §4.5), named by a URI; its parameters are the server's own. */
export interface ExtensionGrantRequest extends CommonParameters {
  readonly grant_type: `${string}:${string}`
}

/** A request for the first tokens of a grant, by the names of the wire. */
export type AcquireParameters =
  | AuthorizationCodeRequest
  | PasswordRequest
  | JwtBearerRequest
  | ExtensionGrantRequest

/** A grant's own parameters, in the order of its specification, and what to do when one of the required is not there. */
interface Grant {
  readonly required: readonly string[]
  readonly optional: readonly string[]
  readonly cure: string
}

const GRANTS: Readonly<Record<string, Grant>> = {
  authorization_code: {
    required: ['code'],
    optional: ['redirect_uri', 'code_verifier'],
    cure: 'Take it from the query of the callback: a string, and if there is none, an `error` that says why.',
  },
  password: {
    required: ['username', 'password'],
    optional: [],
    cure: "Give both: acquire({ grant_type: 'password', username, password }).",
  },
  'urn:ietf:params:oauth:grant-type:jwt-bearer': {
    required: ['assertion'],
    optional: [],
    cure: 'Give the JWT about the user: acquire({ grant_type, assertion }).',
  },
}

/** Names that one might write in camel case. */
const WIRE_NAMES: readonly string[] = [
  ...['grant_type', 'redirect_uri', 'code_verifier', 'client_id', 'client_secret'],
  ...['client_assertion', 'client_assertion_type'],
]

/**
 * The names of a grant's own parameters, in the order of its specification, whatever the caller's order.
 *
 * @throws `ConfigurationError` when there is no grant type, or one that nobody has, or when what it needs is not there.
 */
export function ownParameters(parameters: AcquireParameters): string[] {
  if (typeof parameters !== 'object' || parameters === null) {
    throw new ConfigurationError(
      "acquire() takes the parameters of a token request: acquire({ grant_type: 'authorization_code', code }).",
    )
  }
  refuseCamelCase(parameters)
  const own = ownProperties(parameters)
  const { grant_type } = own
  const grant = typeof grant_type === 'string' && Object.hasOwn(GRANTS, grant_type) && GRANTS[grant_type]
  if (grant) {
    const missing = grant.required.find((name) => !isText(own[name]))
    if (missing === undefined) return ['grant_type', ...grant.required, ...grant.optional]
    throw new ConfigurationError(
      `acquire(): \`${missing}\` is missing, or no string, so nothing was sent. ${grant.cure}`,
    )
  }
  if (typeof grant_type === 'string' && URL.canParse(grant_type)) return ['grant_type']
  throw new ConfigurationError(
    `\`grant_type\` must be one of ${Object.keys(GRANTS).join(', ')}, or the URI of another grant (RFC 6749 §4.5).`,
  )
}

/**
 * Takes what is to be checked from what is to be sent.
 *
 * @throws `ConfigurationError` for a `nonce` that is none, as of a session that was lost: then nothing would be checked
 */
export function parametersToSend(parameters: AcquireParameters): { sent: FormParameters; iss?: unknown } {
  const { iss, nonce, ...sent } = ownProperties(parameters)
  if (Object.hasOwn(parameters, 'nonce') && !isText(nonce)) {
    throw new ConfigurationError(
      'acquire(): `nonce` is no string, or an empty one, so nothing was sent. Give the one of the authorization request, or ' +
        'leave it out if that had none.',
    )
  }
  return ownProperties({ sent, ...(iss !== undefined && { iss }) })
}

/**
 * Compares the `iss` of a callback with the issuer (RFC 9207 §2.4), letter by letter.
 *
 * @throws `ERR_INVALID_TOKEN_RESPONSE` when it is another, `ConfigurationError` when the issuer is not known
 */
export function checkIssuer(iss: unknown, issuer: string | undefined): void {
  if (issuer === undefined) {
    throw new ConfigurationError(
      'acquire(): `iss` cannot be compared, since the option `issuer` is not given, so nothing was sent. Name the authorization ' +
        'server by `issuer`, or leave `iss` out.',
    )
  }
  if (iss === issuer) return
  throw new TokenError(
    'ERR_INVALID_TOKEN_RESPONSE',
    'The `iss` of the callback is not the issuer that the user was sent to. Nothing was sent to the token endpoint. Send the ' +
      'user to the login again.',
  )
}

/** They would be sent as they are, as parameters of the server's own. */
function refuseCamelCase(parameters: object): void {
  for (const name of Object.keys(parameters)) {
    const onTheWire = name.replace(/[A-Z]+/g, (letters) => `_${letters.toLowerCase()}`)
    if (name === onTheWire || !WIRE_NAMES.includes(onTheWire)) continue
    throw new ConfigurationError(
      `acquire() takes the names of the wire, unlike \`${name}\`. Did you mean \`${onTheWire}\`?`,
    )
  }
}

function isText(value: unknown): boolean {
  return typeof value === 'string' && value !== ''
}

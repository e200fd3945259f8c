import { ConfigurationError } from '../errors.js'

/** What every grant may ask for besides. Further parameters of a provider's own are sent along, e.g. `audience`. */
interface CommonParameters {
  /** Scopes, separated by spaces (RFC 6749 §3.3). */
  readonly scope?: string | undefined
  /** The APIs the token is for (RFC 8707). */
  readonly resource?: string | readonly string[] | undefined
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
  const { grant_type } = parameters
  const grant = typeof grant_type === 'string' && Object.hasOwn(GRANTS, grant_type) && GRANTS[grant_type]
  if (grant) {
    const missing = grant.required.find((name) => !isText(parameters[name]))
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

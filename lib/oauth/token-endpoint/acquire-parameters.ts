import { ConfigurationError, TokenError } from '../../errors/token-error.js'
import { ownProperties } from '../../options/own-properties.js'
import type { AcquireParameters } from '../authorization-server.js'
import type { FormParameters } from './token-endpoint.js'

/** The parameters that the specification of a grant type defines, in its order. */
interface GrantType {
  readonly required: readonly string[]
  readonly optional: readonly string[]
  /** The cure when a required parameter is missing. */
  readonly cure: string
}

const GRANT_TYPES: Readonly<Record<string, GrantType>> = {
  authorization_code: {
    required: ['code'],
    optional: ['redirect_uri', 'code_verifier'],
    cure: 'Take it from the query of the callback. A callback without a code has an `error` that says why.',
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

/** The names that an app may have written in camel case by mistake. */
const WIRE_NAMES: readonly string[] = [
  ...['grant_type', 'redirect_uri', 'code_verifier', 'client_id', 'client_secret'],
  ...['client_assertion', 'client_assertion_type'],
]

/**
 * Checks the parameters of `acquire()`, and lists the names that are sent first, in the order of the specification.
 *
 * @throws `ConfigurationError` without a valid grant type, or without a parameter that it requires.
 */
export function namesSentFirst(parameters: AcquireParameters): string[] {
  if (typeof parameters !== 'object' || parameters === null) {
    throw new ConfigurationError(
      "acquire() takes the parameters of a token request: acquire({ grant_type: 'authorization_code', code }).",
    )
  }
  rejectCamelCase(parameters)
  const own = ownProperties(parameters)
  const { grant_type } = own
  const grant =
    typeof grant_type === 'string' && Object.hasOwn(GRANT_TYPES, grant_type) && GRANT_TYPES[grant_type]
  if (grant) {
    const missing = grant.required.find((name) => !isNonEmptyString(own[name]))
    if (missing === undefined) return ['grant_type', ...grant.required, ...grant.optional]
    throw new ConfigurationError(
      `acquire(): \`${missing}\` is missing, empty or not a string, so nothing was sent. ${grant.cure}`,
    )
  }
  if (typeof grant_type === 'string' && URL.canParse(grant_type)) return ['grant_type']
  throw new ConfigurationError(
    `\`grant_type\` must be one of ${Object.keys(GRANT_TYPES).join(', ')}, or the URI of another grant (RFC 6749 §4.5).`,
  )
}

/**
 * Separates the parameters that are sent from `iss` and `nonce`, which are only checked.
 *
 * @throws `ConfigurationError` for a `nonce` without a value, as from a lost session: the ID token would not be checked
 */
export function parametersToSend(parameters: AcquireParameters): { sent: FormParameters; iss?: unknown } {
  const { iss, nonce, ...sent } = ownProperties(parameters)
  if (Object.hasOwn(parameters, 'nonce') && !isNonEmptyString(nonce)) {
    throw new ConfigurationError(
      'acquire(): `nonce` must be a string that is not empty, so nothing was sent. Give the nonce of the authorization ' +
        'request, or leave it out if that request had none.',
    )
  }
  return ownProperties({ sent, ...(iss !== undefined && { iss }) })
}

/**
 * Checks that the `iss` of a callback is the issuer (RFC 9207 §2.4), letter by letter.
 *
 * @throws `ERR_INVALID_TOKEN_RESPONSE` when it is not, `ConfigurationError` when the issuer is not configured
 */
export function checkIssuer(iss: unknown, issuer: string | undefined): void {
  if (issuer === undefined) {
    throw new ConfigurationError(
      'acquire(): `iss` cannot be checked without the option `issuer`, so nothing was sent. Give the option `issuer`, or leave ' +
        'out `iss`.',
    )
  }
  if (iss === issuer) return
  throw new TokenError(
    'ERR_INVALID_TOKEN_RESPONSE',
    'The `iss` of the callback is not the issuer that the user was sent to. Nothing was sent to the token endpoint. Send the ' +
      'user to the login again.',
  )
}

/** Rejects names in camel case, which would be sent as they are, as further parameters. */
function rejectCamelCase(parameters: object): void {
  for (const name of Object.keys(parameters)) {
    const onTheWire = name.replace(/[A-Z]+/g, (letters) => `_${letters.toLowerCase()}`)
    if (name === onTheWire || !WIRE_NAMES.includes(onTheWire)) continue
    throw new ConfigurationError(
      `acquire() takes parameters by their names on the wire, unlike \`${name}\`. Did you mean \`${onTheWire}\`?`,
    )
  }
}

function isNonEmptyString(value: unknown): boolean {
  return typeof value === 'string' && value !== ''
}

import { ConfigurationError, TokenError } from '../errors/token-error.js'
import { isDpopType } from '../oauth/dpop/bound-response.js'
import type { Dpop } from '../oauth/dpop/dpop.js'
import { type GivenDpopKey, givenDpopKey } from '../oauth/dpop/keys.js'
import { anyString, optional, text } from '../options/option-kinds.js'
import { checkOptions, type OptionTable } from '../options/option-table.js'
import { ownProperties } from '../options/own-properties.js'
import type { DpopKey } from '../tokens/dpop-key.js'
import type { TokenResponse } from '../tokens/token-response.js'
import type { TokenToSend, ValidAccessToken } from '../tokens/token-source.js'
import type { MiddlewareContext } from './composition.js'
import type { LoginOptions } from './login-options.js'

/** The options of `set()`. */
export interface SetOptions extends LoginOptions {
  /**
   * The key that the login library requested the tokens with (RFC 9449): a `CryptoKeyPair`, a private `CryptoKey` or `KeyObject`,
   * or a private JWK. It must be extractable, since it is stored with the tokens. Needs the option `dpop` of `sessionTokens()`.
   */
  dpopKey?: GivenDpopKey
}

/** The request that a proof is for. */
export interface DpopProofRequest {
  /** The method as it is sent, e.g. `'GET'`. */
  readonly method: string
  /** The URL. Its query and its fragment do not go into the proof. */
  readonly url: string
  /** The nonce that the API has asked for (`DPoP-Nonce`). Default: the newest one that is known of its origin. */
  readonly nonce?: string
  /** The access token that the request carries. Default: that of `getAccessToken()`. */
  readonly accessToken?: string
}

/** Returns the options of `set()` that `acquire()` has as well. */
export function withoutKey({ dpopKey: _, ...options }: SetOptions): LoginOptions {
  return options
}

const PROOF_OPTIONS = {
  method: text('GET'),
  url: checkUrl,
  nonce: optional(anyString),
  accessToken: optional(anyString),
} satisfies OptionTable<DpopProofRequest>

/**
 * Returns the parts of the option `dpop`.
 *
 * @param call names the call that needs them
 *
 * @throws `ConfigurationError` without the option `dpop`
 */
export function requireDpop(dpop: Dpop | undefined, call: string): Dpop {
  if (dpop) return dpop
  throw new ConfigurationError(
    `${call} needs the option \`dpop\`: sessionTokens({ …, dpop: true, encryptionKeys }).`,
  )
}

/**
 * Adds the key that a login library has used to the tokens that it got. Tokens that are not bound to a key are refused, unless
 * the app accepts bearer tokens.
 */
export async function boundTokens(
  tokens: TokenResponse,
  dpopKey: GivenDpopKey | undefined,
  dpop: Dpop | undefined,
): Promise<TokenResponse> {
  if (dpopKey !== undefined) {
    requireDpop(dpop, 'set(tokens, { dpopKey })')
    if (tokens.tokenType !== undefined && !isDpopType(tokens.tokenType)) requireBearerAccepted(tokens, dpop!)
    const key = await givenDpopKey(dpopKey)
    const isBearer = tokens.tokenType !== undefined && !isDpopType(tokens.tokenType)
    return ownProperties({ ...tokens, dpopKey: key, ...(!isBearer && { tokenType: 'DPoP' }) })
  }
  if (dpop) requireBearerAccepted(tokens, dpop)
  return tokens
}

function requireBearerAccepted({ tokenType = 'Bearer' }: TokenResponse, { acceptsBearer }: Dpop): void {
  if (acceptsBearer && !isDpopType(tokenType)) return
  throw new TokenError(
    'ERR_INVALID_TOKEN_RESPONSE',
    isDpopType(tokenType)
      ? 'set() was given DPoP tokens without their key. Give the key that they were requested with: set(tokens, { dpopKey }).'
      : 'set() was given tokens that are not bound to a key, and the option `dpop` refuses them. Request them with DPoP and ' +
          "give the key, set(tokens, { dpopKey }), or accept bearer tokens: dpop: { bearer: 'accept' }.",
  )
}

function checkUrl(url: unknown): string {
  if (typeof url === 'string' && /^https?:/i.test(url) && URL.canParse(url)) return url
  throw new ConfigurationError(
    "`url` must be an absolute http or https URL, e.g. url: 'https://api.example.com/orders'.",
  )
}

/** Makes the proof of a request that an app's own client sends. */
export async function appProof(
  { dpop: given }: MiddlewareContext,
  keyOf: () => DpopKey | undefined | Promise<DpopKey | undefined>,
  request: DpopProofRequest,
  getAccessToken: () => Promise<ValidAccessToken>,
): Promise<string> {
  const dpop = requireDpop(given, 'dpopProof()')
  const { accessToken, method, nonce, url } = checkOptions(request, PROOF_OPTIONS, {
    of: 'dpopProof()',
    takes: "dpopProof() takes the request: dpopProof({ method: 'GET', url })",
  })
  const token = accessToken ?? (await getAccessToken()).token
  const key = await keyOf()
  if (!key) throw noKeyError()
  if (nonce !== undefined) dpop.keepNonce(url, nonce)
  return dpop.forApi(key, token).proof(method, url)
}

function noKeyError(): TokenError {
  return new TokenError(
    'ERR_INVALID_TOKEN_RESPONSE',
    'The tokens of this session are bearer tokens, which need no proof. Send them as getAccessToken() says: by their tokenType.',
  )
}

/** Adds the proofs of the grant's key to a token that is bound to it. Without the key the token is not sent. */
export function withProofs(
  { dpop }: MiddlewareContext,
  key: DpopKey | undefined,
  token: ValidAccessToken,
): TokenToSend {
  return dpop && key ? { ...token, dpop: dpop.forApi(key, token.token) } : token
}

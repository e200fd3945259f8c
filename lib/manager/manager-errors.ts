import { safeExcerpt } from '../errors/redact.js'
import { SHARED_GRANT_STORES, StepUpError, TokenError } from '../errors/token-error.js'
import { type AccessToken, unexpiredToken } from '../tokens/access-token.js'
import type { EndReason, IgnoredReason } from '../tokens/events.js'
import type { TokenNeed } from '../tokens/token-need.js'
import { isDead, secretsOf, type TokenSet } from '../tokens/token-set.js'

const MAX_SHOWN_LENGTH = 200

/** The cure for a token whose scope is not known. */
const SCOPE_UNKNOWN = ' If the token response has no `scope`, pass it to set().'

/** Returns the error for a need that has no token, of a session that cannot be refreshed. */
export function cannotRefreshError(tokens: TokenSet, need: TokenNeed, now: number): TokenError {
  const valid = tokens.accessTokens.filter(({ expiresAt }) => now < expiresAt)
  if (valid.some(({ token }) => token === need.rejected)) return rejectedByApi()
  const [ofLogin] = valid
  // If the refresh token was lost since the login, another login brings a new one.
  const isAsAtLogin = tokens.revision === 1
  return ofLogin && isAsAtLogin && !unexpiredToken(tokens, need, now)
    ? insufficientScope(tokens, ofLogin, need)
    : expired(isDead(tokens) ? 'invalid_grant' : 'expired')
}

function expired(reason: EndReason): TokenError {
  return new TokenError(
    'ERR_REAUTHENTICATION_REQUIRED',
    'The tokens of this session have expired, and there is no usable refresh token. Send the user to the login.',
    { reason },
  )
}

/** Returns the error for a login that is over as far as this process knows, while the grant store, which may know a later end, fails. */
export function endUnknownError(): TokenError {
  return new TokenError(
    'ERR_GRANT_STORE',
    'The login is over as far as this process knows. Another process may know a later end, and the grant store did not respond. ' +
      'Try again later. Check the connection of the grant store.',
  )
}

/** Returns the error for a login that is over, although its tokens may be valid. */
export function loginOverError(): TokenError {
  return new TokenError(
    'ERR_REAUTHENTICATION_REQUIRED',
    'The login is over: the session at the authorization server has expired (session_expiry), or the login is older than ' +
      'maxLoginAgeMs. Send the user to the login.',
    { reason: 'expired' },
  )
}

/** Returns the error for a request without a valid access token on a route with `refresh: false`. */
export function notRefreshedError(): TokenError {
  return new TokenError(
    'ERR_REAUTHENTICATION_REQUIRED',
    'There is no valid access token, and this route does not refresh tokens (refresh: false). The next request to a route that ' +
      'refreshes tokens gets a new token, if the login still allows that.',
  )
}

function rejectedByApi(): TokenError {
  return new TokenError(
    'ERR_REAUTHENTICATION_REQUIRED',
    'The API rejected the access token, and there is no refresh token to get another one. Send the user to the login.',
  )
}

/** Returns the error for a scope that another login with the same parameters would not bring either. */
function insufficientScope(tokens: TokenSet, { scope }: AccessToken, need: TokenNeed): TokenError {
  const { audience, resource, scope: needed } = need
  const wanted = Object.entries({ scope: needed, resource, audience }).filter(
    ([, value]) => value !== undefined,
  )
  const quote = (text: string) => `'${safeExcerpt(text, secretsOf(tokens), MAX_SHOWN_LENGTH)}'`
  const granted = scope === undefined ? 'the token response had no scope' : `its scope is ${quote(scope)}`
  const names = wanted.map(([name]) => name).join(', ')
  return new TokenError(
    'ERR_INSUFFICIENT_SCOPE',
    `The access token is valid, but is not known to cover the requested ${names}. There is no refresh token to get another one. ` +
      `Request this ${names} and offline access at login.${needed === undefined ? '' : SCOPE_UNKNOWN}`,
    {
      details: `needed: ${wanted.map(([name, value]) => `${name} ${quote(value!)}`).join(', ')}; ${granted}`,
    },
  )
}

/** Returns the error for a need that the authorization server refuses, although the refresh token serves other needs. */
export function needRefusedError(
  { scope }: TokenNeed,
  { details, error, errorDescription }: TokenError,
): StepUpError {
  return new StepUpError(
    { ...(scope !== undefined && { scope }) },
    { error, errorDescription, details },
    'The authorization server issues no token for this scope, resource or audience without the user. Send the user to the ' +
      'login, and request it there. The other tokens of the session stay valid.',
  )
}

/** Returns the error for a refresh without a need that requires the user. The session stays, and its valid tokens are served. */
export function loginRequiredError(cause: StepUpError): TokenError {
  const { details, error, errorDescription } = cause
  return new TokenError(
    'ERR_REAUTHENTICATION_REQUIRED',
    'The authorization server requires the user before it issues another token. Send the user to the login, with ' +
      'the claims, acrValues and maxAge of the cause.',
    { cause, error, errorDescription, details },
  )
}

/** Returns the error for a session copy from a later version of this library, for example during the upgrade of an app. */
export function laterVersionError(): TokenError {
  return new TokenError(
    'ERR_SESSION_STORE',
    'The tokens of this session were written by a later version of session-token-manager. They are not changed. Upgrade this process.',
  )
}

const IGNORED: Record<Exclude<IgnoredReason, 'other_version'>, string> = {
  unknown_key:
    'are sealed with a key that this process does not have, or for another clientId, issuer or sessionKey. Give all processes ' +
    'the same encryptionKeys, clientId, issuer and sessionKey.',
  not_sealed:
    'are not sealed, and this process has encryptionKeys. For sessions in a store from before the keys, acceptUnsealed: true ' +
    'keeps them valid.',
  sealed: 'are sealed, and this process has no encryptionKeys. Give all processes the same encryptionKeys.',
  other_client:
    'belong to another clientId or issuer. Give all processes the same clientId and issuer, and each client a sessionKey of its own.',
  other_keep:
    "are kept in a grant store (keep: 'store'), and this process has none. Give all processes the same grants and keep.",
  malformed:
    'cannot be read: they were changed, or another part of the app has written them. Only this library may write the sessionKey.',
}

/** Returns the error for a session copy that this process cannot use. */
export function ignoredCopyError(reason: IgnoredReason): TokenError {
  if (reason === 'other_version') return laterVersionError()
  return new TokenError(
    'ERR_NO_TOKENS',
    `The tokens in this session ${IGNORED[reason]} This process ignores them, so the user has to log in.`,
  )
}

/** Returns the error for a session without tokens. */
export function noTokensError(): TokenError {
  return new TokenError(
    'ERR_NO_TOKENS',
    'This session holds no tokens. Send the user to the login; it must end with req.tokens.set() or acquire().',
  )
}

/** Returns the error for a text that is no reference for this client and session key, or that was changed. */
export function unusableReferenceError(): TokenError {
  return new TokenError(
    'ERR_NO_TOKENS',
    'This reference cannot be used: it was changed, or made for another clientId, issuer or sessionKey, or with other ' +
      'encryptionKeys. Give the process that makes references and the process that uses them the same options.',
  )
}

/** Returns the error with which the signal of a request aborts. */
export function endedError(reason: EndReason): TokenError {
  return new TokenError(
    'ERR_REAUTHENTICATION_REQUIRED',
    `The login has ended (${reason}). The user must log in again.`,
    { reason },
  )
}

/** Returns the error for a reference to a grant that has ended. */
export function endedReferenceError(reason: EndReason, cause?: TokenError): TokenError {
  return new TokenError(
    'ERR_REAUTHENTICATION_REQUIRED',
    `The grant of this reference has ended (${reason}). Delete the reference. Another one can be made when the user has logged ` +
      'in again.',
    { reason, cause },
  )
}

/** The error for a reference to a grant that the grant store has lost before its time. It is about no session of the grant. */
export class LostReferenceError extends TokenError {
  constructor() {
    super(
      'ERR_GRANT_STORE',
      'The grant store has lost the tokens of this reference before their time. Keep the reference: it works again when the ' +
        'user has made another request, or another process has stored the tokens again.',
    )
  }
}

/** Returns the error for a reference to a grant that the grant store does not know, or not any more. */
export function forgottenReferenceError(isShared: boolean): TokenError {
  return new TokenError(
    'ERR_REAUTHENTICATION_REQUIRED',
    isShared
      ? 'The grant store has forgotten the tokens of this reference, since they were not used for as long as it was asked to keep ' +
          'them. Make another reference, with a longer ttlMs: req.tokens.offlineReference({ ttlMs }).'
      : 'This process does not know the tokens of this reference. Without a grant store that processes share, a reference works ' +
          'only in the process that made it, until it ends. ' +
          `Give both processes the same \`grants\`: ${SHARED_GRANT_STORES}.`,
  )
}

/** Returns the error for newer tokens that this process cannot read. The refresh token that it can read has been spent. */
export function unreadableTokensError(code: 'ERR_GRANT_STORE' | 'ERR_SESSION_STORE'): TokenError {
  return new TokenError(
    code,
    'Another process has stored newer tokens that this process cannot read. Give all processes the same encryptionKeys, clientId ' +
      'and issuer. Add a new key at the end of the list in every process first, then move it to the front.',
  )
}

/**
 * Thrown when this process was suspended or blocked for so long that another process may have the lease. The refresh takes the
 * lease again.
 */
export class LeaseLapsedError extends TokenError {
  constructor() {
    super('ERR_GRANT_STORE', 'The lease of the grant ran out before the refresh token was sent. Try again.')
  }
}

/** Returns the error for a grant whose lease another process holds for too long. */
export function leasedForTooLongError(): TokenError {
  return new TokenError(
    'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    'Another process has been refreshing this grant for too long. Try again later, and check the response times of the ' +
      'authorization server.',
  )
}

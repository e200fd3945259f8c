import { StepUpError, TokenError, type TokenErrorDetails } from './errors.js'
import { shownText } from './oauth/foreign-text.js'
import { redact } from './redact.js'
import { type AccessToken, secretsOf, type TokenNeed, type TokenSet, unexpiredToken } from './token-set.js'

const MAX_SHOWN_LENGTH = 200

/** Why there is no token for a need when nobody can refresh this session any more. */
export function nothingToRefreshWith(tokens: TokenSet, need: TokenNeed, now: number): TokenError {
  const valid = tokens.accessTokens.filter(({ expiresAt }) => now < expiresAt)
  if (valid.some(({ token }) => token === need.rejected)) return refusedByApi()
  const [ofLogin] = valid
  // Where a refresh token has been lost since, another login brings a new one.
  const isAsAtLogin = tokens.revision === 1
  return ofLogin && isAsAtLogin && !unexpiredToken(tokens, need, now)
    ? insufficientScope(tokens, ofLogin, need)
    : expired()
}

function expired(): TokenError {
  return new TokenError(
    'ERR_REAUTHENTICATION_REQUIRED',
    'The tokens of this session have expired and there is no refresh token that is still good. Send the user to the login.',
  )
}

function refusedByApi(): TokenError {
  return new TokenError(
    'ERR_REAUTHENTICATION_REQUIRED',
    'The API has refused the access token, and there is no refresh token to get another one with. Send the user to the login.',
  )
}

/** Another login would bring the same again. */
function insufficientScope(tokens: TokenSet, { scope }: AccessToken, need: TokenNeed): TokenError {
  const { audience, resource, scope: needed } = need
  const wanted = Object.entries({ scope: needed, resource, audience })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name} '${shownText(value!, secretsOf(tokens), MAX_SHOWN_LENGTH)}'`)
  const said =
    scope === undefined
      ? 'the token answer had no scope'
      : `its scope is '${shownText(scope, secretsOf(tokens), MAX_SHOWN_LENGTH)}'`
  return new TokenError(
    'ERR_INSUFFICIENT_SCOPE',
    `The access token is valid, but is not known to be for ${wanted.join(', ')}: ${said}. There is no refresh token to get ` +
      'another one with. Ask for it, and for offline access, at login; where the token answer leaves `scope` out, pass it to ' +
      'set().',
  )
}

/** The authorization server refuses a need with `invalid_grant`, though the refresh token is good for other needs. */
export function refusedForNeed({ scope }: TokenNeed, { error, errorDescription }: TokenError): StepUpError {
  return new StepUpError(
    { ...(scope !== undefined && { scope }) },
    { error, errorDescription },
    'The authorization server issues no token for this scope, resource or audience without the user. Send the user to the ' +
      'login, and ask for it there. The other tokens of the session are as good as before.',
  )
}

/** A refresh that named no need asks for the user. The session stays: a token that is still valid goes on being served. */
export function loginRequired(cause: StepUpError): TokenError {
  const { error, errorDescription } = cause
  return new TokenError(
    'ERR_REAUTHENTICATION_REQUIRED',
    'The authorization server wants the user to take part before it issues another token. Send the user to the login, with ' +
      'the claims, acrValues and maxAge of the cause.',
    { cause, error, errorDescription },
  )
}

/** What a session holds was written by a later version of this library, as while an app is being upgraded. */
export function laterVersion(): TokenError {
  return new TokenError(
    'ERR_SESSION_STORE',
    'The tokens of this session were written by a later version of session-token-manager. They are left alone. Upgrade this process.',
  )
}

/** Nobody is logged in. */
export function loggedOut(): TokenError {
  return new TokenError(
    'ERR_NO_TOKENS',
    'This session holds no tokens. Send the user to the login; it must end with req.tokens.set() or acquire().',
  )
}

/**
 * The grant store has failed at something, `what`. Why is said as far as nobody else chose the words: by a code, or by one
 * of our own messages.
 */
export function grantStoreFailed(what: string, details: TokenErrorDetails): TokenError {
  const { cause, secrets = [] } = details
  const { code } = (cause ?? {}) as { code?: unknown }
  const said =
    cause instanceof TokenError ? `. ${cause.message}` : isCode(code) ? ` (${redact(code, secrets)}).` : '.'
  return new TokenError('ERR_GRANT_STORE', `${what}${said} Check its connection.`, details)
}

/** Such as ECONNREFUSED. */
function isCode(code: unknown): code is string {
  return typeof code === 'string' && /^[A-Z][A-Z\d_]{2,31}$/.test(code)
}

import { TokenError } from './errors.js'

/** Nobody can refresh this session any more. */
export function nothingToRefreshWith(): TokenError {
  return new TokenError(
    'ERR_REAUTHENTICATION_REQUIRED',
    'The tokens of this session have expired and there is no refresh token that is still good. Send the user to the login.',
  )
}

/** Nobody is logged in. */
export function loggedOut(): TokenError {
  return new TokenError(
    'ERR_NO_TOKENS',
    'This session holds no tokens. Send the user to the login; it must end with req.tokens.set() or acquire().',
  )
}

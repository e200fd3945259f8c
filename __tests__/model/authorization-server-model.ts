import { bit, type Server } from './protocol-state.js'

/**
 * What an authorization server with rotation makes of a refresh token. A new one is answered with the next; one that
 * came before, or whose grant has ended, with `invalid_grant`.
 */
export function present(
  server: Server,
  token: number,
  reuse: 'ends the grant' | 'is refused',
): readonly [left: Server, answer: number | 'invalid_grant'] {
  const presented = server.presented | bit(token)
  if (server.ended) return [{ ...server, presented }, 'invalid_grant']
  if (token === server.newest) {
    const newest = token + 1
    return [{ ...server, presented, newest }, newest]
  }
  return [{ ...server, presented, ended: reuse === 'ends the grant' }, 'invalid_grant']
}

/** Revokes a token (RFC 7009). One that has been replaced already says nothing of those that came after it. */
export function revoke(server: Server, token: number): Server {
  return token === server.newest ? { ...server, ended: true } : server
}

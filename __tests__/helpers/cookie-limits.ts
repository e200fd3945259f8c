import type { Limits } from '../contract/layer-matrix.js'

/** What no session in a cookie can do: the browser keeps what came with the answer that came last, and nothing else. */
export const cookieLimits: Limits = {
  S20: {
    holds: 'partly',
    why: 'the slow answer brings the old cookie back; the next request that asks for a token is given the newest, without a refresh, and mends the cookie',
  },
  S21: {
    holds: 'partly',
    why: 'the cookie of the answer that comes last is kept whole, so what the other request changed in the session is lost, as without this library; the tokens are the newest from the next request that asks for one',
  },
  S22: {
    holds: 'partly',
    why: 'the cookie of the answer that comes last is kept whole, so what the other request changed in the session is lost, as without this library; the tokens are the newest from the next request that asks for one',
  },
  S24: {
    holds: 'partly',
    why: 'where that happens in a request from before the refresh, its answer brings the old tokens back, and the next request that asks for a token mends the cookie',
  },
  S25: { holds: 'not', why: 'there is no store that could fail' },
  S26: {
    holds: 'partly',
    why: 'the tokens are in the grant store alone until the browser comes again, so a restart of the process loses them unless the grant store is shared',
  },
  S27: {
    holds: 'partly',
    why: 'the cookie is out, so it is refused with `ERR_HEADERS_SENT` before the refresh token is spent; with a shared grant store it is done',
  },
  S28: { holds: 'not', why: 'there is no session id' },
  S36: {
    holds: 'partly',
    why: 'after `revoke()` or `clear()` it is of no use; a session that the app has only thrown away is as good as before when its cookie comes back, as it is with every cookie session',
  },
}

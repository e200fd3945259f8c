import type { Limit, Limits } from '../contract/layer-matrix.js'

const lastAnswerWins: Limit = {
  holds: 'partly',
  why:
    'The browser keeps the cookie of the answer that comes last, whole, so what the other request has changed in the ' +
    'session is lost, as without this library. The next request that asks for a token has the newest.',
}

/** What no session in a cookie can do: the browser keeps what came with the answer that came last, and nothing else. */
export const cookieLimits: Limits = {
  S20: {
    holds: 'partly',
    why:
      'The slow answer brings the old cookie back. The next request that asks for a token is given the newest, without ' +
      'a refresh, and mends the cookie.',
  },
  S21: lastAnswerWins,
  S22: lastAnswerWins,
  S24: {
    holds: 'partly',
    why:
      'When a request from before the refresh does it, its answer brings the old tokens back. The next request that ' +
      'asks for a token mends the cookie.',
  },
  S25: { holds: 'not', why: 'There is no store that could fail.' },
  S26: {
    holds: 'partly',
    why:
      'Until the browser comes again the tokens are in the grant store alone: a restart of the process loses them, ' +
      'unless the grant store is shared.',
  },
  S27: {
    holds: 'partly',
    why:
      'The cookie is on its way, so the refresh is refused with `ERR_HEADERS_SENT` before the refresh token is spent. ' +
      'With a shared grant store it is done.',
  },
  S28: { holds: 'not', why: 'There is no session id.' },
  S36: {
    holds: 'partly',
    why:
      'After `revoke()` or `clear()` the tokens that come back are of no use. Another process that has served this ' +
      'session before serves its access token until that expires. A session that the app has only thrown away is as ' +
      'good as before when its cookie comes back.',
  },
}

import type { Limit, Limits } from '../contract/layer-matrix.js'

const lastResponseWins: Limit = {
  holds: 'partly',
  why:
    "The browser keeps the whole cookie of the response that arrives last. The other request's changes " +
    'of the session are lost, as without this library. The next request that asks for a token gets the ' +
    'newest.',
}

/** The limits of every session in a cookie: the browser keeps only the cookie of the response that arrives last. */
export const cookieLimits: Limits = {
  S20: {
    holds: 'partly',
    why:
      'The slow response brings the old cookie back. The next request that asks for a token gets the ' +
      'newest, without a refresh, and its response repairs the cookie.',
  },
  S21: lastResponseWins,
  S22: lastResponseWins,
  S24: {
    holds: 'partly',
    why:
      'When a request that began before the refresh does it, its response brings the old tokens back. The ' +
      'response to the next request that asks for a token repairs the cookie.',
  },
  S25: { holds: 'not', why: 'There is no store that could fail.' },
  S26: {
    holds: 'partly',
    why:
      "Until the browser's next request the tokens are only in the grant store: a restart of the process " +
      'loses them, unless the grant store is shared.',
  },
  S27: {
    holds: 'partly',
    why:
      'The cookie has been sent, so the refresh is refused with `ERR_HEADERS_SENT` before the refresh ' +
      'token is used. With a shared grant store the refresh is made.',
  },
  S28: { holds: 'not', why: 'There is no session id.' },
  S36: {
    holds: 'partly',
    why:
      'After `revoke()` or `clear()` the tokens that come back are useless. Another process that has ' +
      'served this session before serves its access token until the token expires. A session that the app ' +
      'has only discarded is valid again when its cookie comes back.',
  },
}

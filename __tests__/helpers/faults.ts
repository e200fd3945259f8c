import type { ServerResponse } from 'node:http'
import { type Answer, send } from './http-server.js'

const RETRY_AFTER_SECONDS = '7'

/** Answers that a token endpoint should never give, and those that it may. */
const ANSWERS = {
  429: { status: 429, headers: { 'retry-after': RETRY_AFTER_SECONDS }, body: 'Too Many Requests' },
  500: { status: 500, body: 'Internal Server Error' },
  503: { status: 503, headers: { 'retry-after': RETRY_AFTER_SECONDS }, body: 'Service Unavailable' },
  'html-502': {
    status: 502,
    headers: { 'content-type': 'text/html' },
    body: '<html><h1>502 Bad Gateway</h1></html>',
  },
  'html-200': {
    status: 200,
    headers: { 'content-type': 'text/html' },
    body: '<html><h1>Down for maintenance</h1></html>',
  },
  garbage: { status: 200, headers: { 'content-type': 'application/json' }, body: '\u0000\u0001 not JSON' },
  'cut-off': {
    status: 200,
    headers: { 'content-type': 'application/json' },
    body: '{"access_token":"cut-off-access-tok',
  },
  empty: { status: 200 },
  'empty-400': { status: 400 },
  'empty-401': { status: 401 },
  null: { status: 200, body: null },
  array: { status: 200, body: [] },
  'no-access-token': { status: 200, body: { token_type: 'Bearer', expires_in: 3600 } },
  huge: {
    status: 200,
    headers: { 'content-type': 'application/json' },
    body: `{"access_token":"huge","token_type":"Bearer","padding":"${'x'.repeat(10_000_000)}"}`,
  },
  redirect: { status: 307, headers: { location: '/elsewhere' } },
  invalid_client: {
    status: 401,
    headers: { 'www-authenticate': 'Basic realm="token endpoint"' },
    body: { error: 'invalid_client', error_description: 'client authentication failed' },
  },
  'invalid_client-400': { status: 400, body: { error: 'invalid_client' } },
  unauthorized_client: { status: 400, body: { error: 'unauthorized_client' } },
  invalid_grant: { status: 400, body: { error: 'invalid_grant', error_description: 'not valid any more' } },
  invalid_scope: { status: 400, body: { error: 'invalid_scope' } },
  temporarily_unavailable: { status: 400, body: { error: 'temporarily_unavailable' } },
} satisfies Record<string, Answer>

/** Ways to break a connection before the request is looked at. */
const BREAKS = {
  /** The connection is reset. */
  reset: (response: ServerResponse) => void response.socket?.resetAndDestroy(),
  /** The connection is closed as if all were well, without a byte. */
  hangup: (response: ServerResponse) => void response.socket?.end(),
  /** Nothing ever comes. */
  silence: () => {},
  /** The answer starts, and never ends. */
  stall: (response: ServerResponse) =>
    void response.writeHead(200, { 'content-type': 'application/json' }).write('{"access_token":"stal'),
  /** The connection is reset in the middle of the answer. */
  'cut-connection': (response: ServerResponse) =>
    void response
      .writeHead(200, { 'content-type': 'application/json', 'content-length': 5000 })
      .write('{"access_token":"cut-conn', () => response.socket?.resetAndDestroy()),
}

/**
 * Something that goes wrong at a token endpoint: a name, or an answer of the test's own.
 *
 * `reset-after` and `silence-after` lose the answer after the authorization server has done its work.
 */
export type Fault = keyof typeof ANSWERS | keyof typeof BREAKS | 'reset-after' | 'silence-after' | Answer

/** Whether the request still reaches the authorization server, so that only its answer is lost. */
export function losesAnswer(fault: Fault | undefined): boolean {
  return fault === 'reset-after' || fault === 'silence-after'
}

/** Fails a request. Returns the status that was sent, if one was. */
export function fail(response: ServerResponse, fault: Fault): number | undefined {
  if (typeof fault === 'object') return sent(response, fault)
  if (fault === 'reset-after') return BREAKS.reset(response) ?? undefined
  if (fault === 'silence-after') return undefined
  if (fault in BREAKS) return BREAKS[fault as keyof typeof BREAKS](response) ?? undefined
  return sent(response, ANSWERS[fault as keyof typeof ANSWERS])
}

function sent(response: ServerResponse, answer: Answer): number {
  send(response, answer)
  return answer.status
}

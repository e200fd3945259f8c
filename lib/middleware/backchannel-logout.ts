import type { IncomingMessage } from 'node:http'
import { TokenError } from '../errors/token-error.js'
import { ownValue } from '../options/own-properties.js'
import type { MiddlewareContext } from './composition.js'
import type { GuardResponse } from './require-tokens.js'

/** The largest body that is read, in bytes. Logout tokens are much shorter. */
const MAX_BODY_BYTES = 65_536

/**
 * Handles a request of the authorization server to log users out (OpenID Connect Back-Channel Logout 1.0 §2.5). Resolves with the
 * response.
 *
 * @param parsed the body, if a body parser has read it
 */
export async function backchannelResponse(
  { keys, manager }: MiddlewareContext,
  request: IncomingMessage,
  parsed: unknown,
): Promise<GuardResponse> {
  if (request.method !== 'POST') return refused('invalid_request', 'The method must be POST.')
  const form = await formOf(request, parsed)
  const token = form && ownValue(form, 'logout_token')
  if (typeof token !== 'string' || token === '') {
    return refused(
      'invalid_request',
      'There is no logout_token in a form (application/x-www-form-urlencoded).',
    )
  }
  try {
    await keys?.prepare()
    const flaw = await manager.backchannelLogout.use(token)
    return flaw === undefined ? done() : refused('invalid_request', `The logout token ${flaw}.`)
  } catch (error) {
    if (!(error instanceof TokenError) || error.code === 'ERR_CONFIGURATION') throw error
    return refused('server_error', 'The logout token could not be used now. Send another one later.')
  }
}

function done(): GuardResponse {
  return { status: 200, headers: { 'cache-control': 'no-store', 'content-length': '0' }, body: '' }
}

function refused(error: string, description: string): GuardResponse {
  const body = JSON.stringify({ error, error_description: description })
  const headers = {
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(body)),
    'cache-control': 'no-store',
  }
  return { status: 400, headers, body }
}

/** Resolves with the fields of a form; `undefined` if the body is something else, or too long. */
async function formOf(request: IncomingMessage, parsed: unknown): Promise<object | undefined> {
  if (!/^application\/x-www-form-urlencoded\s*(?:;|$)/i.test(request.headers['content-type'] ?? ''))
    return undefined
  if (typeof parsed === 'object' && parsed !== null) return parsed
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of request) {
    length += (chunk as Buffer).length
    if (length > MAX_BODY_BYTES) return undefined
    chunks.push(chunk as Buffer)
  }
  const fields = new URLSearchParams(Buffer.concat(chunks).toString('utf8'))
  const isRepeated = fields.getAll('logout_token').length > 1
  return isRepeated ? undefined : Object.fromEntries(fields)
}

import type { Fields } from './fields.js'
import { isListed, oneOf, type Wording } from './wording.js'

/**
 * The responses by which revocation endpoints say that the token is gone already. RFC 7009 §2.2 has them answer 200, since
 * the purpose of the request is achieved; many answer with an error.
 */
const GONE: readonly Wording[] = [
  // Google ("Token expired or revoked") and Salesforce, the latter as a form.
  { server: 'Google, Salesforce', status: [200, 400, 404], fields: { error: oneOf('invalid_token') } },
  // The code of RFC 6749 §5.2 for a refresh token that is "invalid, expired, revoked".
  { server: 'RFC 6749', status: [200, 400], fields: { error: oneOf('invalid_grant') } },
  // Twitch. twitchdev/issues#87.
  { server: 'Twitch', status: [400], fields: { status: oneOf(400), message: oneOf('Invalid token') } },
  // Slack. docs.slack.dev, auth.revoke.
  {
    server: 'Slack',
    status: [200],
    fields: { ok: oneOf(false), error: oneOf('token_revoked', 'token_expired', 'account_inactive') },
  },
]

/** Whether a response to a revocation says that there is nothing left to revoke. */
export function isGone(status: number, fields: Fields): boolean {
  return isListed(GONE, status, fields)
}

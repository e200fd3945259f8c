import type { Fields } from './fields.js'
import { everyOne, isListed, object, oneOf, type Wording } from './wording.js'

/**
 * The responses by which servers say "this refresh token is dead" in other words than `invalid_grant`.
 *
 * A response that is listed here logs a user out. So a row is what the server's documentation or a public report shows:
 * the status, the field and the value, whole and exact. A 5xx is never listed.
 */
const ENDED: readonly Wording[] = [
  // GitHub answers 200. docs.github.com, "Troubleshooting OAuth app access token request errors"; interlink-hq/interLink#262.
  { server: 'GitHub', status: [200], fields: { error: oneOf('bad_refresh_token') } },
  // Slack answers 200. docs.slack.dev, oauth.v2.access; slackapi/node-slack-sdk#2038, slackapi/python-slack-sdk#1242.
  { server: 'Slack', status: [200], fields: { ok: oneOf(false), error: oneOf('invalid_refresh_token') } },
  // Atlassian, besides the 403 with invalid_grant that it documents. raycast/extensions#11836, ParabolInc/parabol#11849.
  {
    server: 'Atlassian',
    status: [403],
    fields: {
      error: oneOf('unauthorized_client'),
      error_description: oneOf('refresh_token is invalid'),
    },
  },
  // X says so of a refresh token that was used, too. Seen alike in the refresh tests of several public clients of its API.
  {
    server: 'X',
    status: [400],
    fields: {
      error: oneOf('invalid_request'),
      error_description: oneOf('Value passed for the token was invalid.'),
    },
  },
  // HubSpot, "missing or invalid refresh token". HGData/mk-node-hubspot#64, airbytehq/airbyte#79592.
  { server: 'HubSpot', status: [400], fields: { status: oneOf('BAD_REFRESH_TOKEN') } },
  // Fitbit. aarondcoleman/Fitbit.NET#320, lukasolson/fitbit-node#14 and home-assistant/core#141223, each a 400.
  {
    server: 'Fitbit',
    status: [400],
    fields: { success: oneOf(false), errors: everyOne({ errorType: oneOf('invalid_grant') }) },
  },
  // Facebook. developers.facebook.com, "Handling Errors": 190 is "get a new access token", and so are these subcodes: app
  // removed, password changed, expired, invalid, invalid session, 90 days without a login (MrSwitch/hello.js#548). The
  // subcodes 459 and 464 are not listed: the user mends these at Facebook, and the token goes on.
  {
    server: 'Facebook',
    status: [400, 401],
    fields: {
      error: object({
        type: oneOf('OAuthException'),
        code: oneOf(190),
        error_subcode: oneOf(undefined, 458, 460, 463, 467, 492, 493),
      }),
    },
  },
  // Strava. dreeveapp/dreeve#1449 and #1520.
  {
    server: 'Strava',
    status: [400],
    fields: {
      errors: everyOne({
        resource: oneOf('RefreshToken'),
        field: oneOf('refresh_token'),
        code: oneOf('invalid'),
      }),
    },
  },
  // Twitch. dev.twitch.tv, "Refreshing Access Tokens"; Teekeks/pyTwitchAPI#37. The body repeats the status.
  {
    server: 'Twitch',
    status: [400],
    fields: { status: oneOf(400), message: oneOf('Invalid refresh token') },
  },
  {
    server: 'Twitch',
    status: [401],
    fields: { status: oneOf(401), message: oneOf('Invalid refresh token') },
  },
  // Ory Hydra, of a refresh token that was used, whose whole chain it revokes then. ory/hydra#3004; neondatabase/mcp-server-neon#232.
  { server: 'Ory Hydra', status: [401], fields: { error: oneOf('token_inactive') } },
  // Zoho answers 200, and says "code" of refresh tokens too. schmorrison/Zoho#18, asciisd/zoho-v3#14.
  { server: 'Zoho', status: [200], fields: { error: oneOf('invalid_code') } },
]

/** Whether a response to a refresh says, in a server's own words, that the refresh token is dead. */
export function isEndOfGrant(status: number, fields: Fields): boolean {
  return isListed(ENDED, status, fields)
}

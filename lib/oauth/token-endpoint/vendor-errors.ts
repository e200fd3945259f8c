import { isJsonObject, type JsonObject } from '../../options/own-properties.js'

/*
 * The error responses by which vendors deviate from RFC 6749, in one table for each question. To add the spelling of a
 * vendor, add a row with the status, the fields and the values exactly as its documentation or a public report shows them.
 * A 5xx is never listed.
 */

/** Tests the value of one field. */
type Test = (value: unknown) => boolean

/** An error response that a vendor is known to send. */
interface VendorError {
  readonly server: string
  readonly status: readonly number[]
  readonly fields: Readonly<Record<string, Test>>
}

const SLACK_UNAVAILABLE = [
  'ratelimited',
  'service_unavailable',
  'internal_error',
  'fatal_error',
  'request_timeout',
]

/** The refresh token is dead, though the code is not `invalid_grant`. A response that is listed here logs a user out. */
const ENDED: readonly VendorError[] = [
  // GitHub responds with 200. docs.github.com, "Troubleshooting OAuth app access token request errors"; interlink-hq/interLink#262.
  { server: 'GitHub', status: [200], fields: { error: oneOf('bad_refresh_token') } },
  // Slack responds with 200. docs.slack.dev, oauth.v2.access; slackapi/node-slack-sdk#2038, slackapi/python-slack-sdk#1242.
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
  // X, also for a refresh token that has been used. Found in the refresh tests of several public clients of its API.
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
  // subcodes 459 and 464 are not listed: the user fixes these at Facebook, and the token stays valid.
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
  // Ory Hydra, for a refresh token that has been used. It then revokes all tokens of the grant. ory/hydra#3004; neondatabase/mcp-server-neon#232.
  { server: 'Ory Hydra', status: [401], fields: { error: oneOf('token_inactive') } },
  // Zoho responds with 200, and calls refresh tokens "code", too. schmorrison/Zoho#18, asciisd/zoho-v3#14.
  { server: 'Zoho', status: [200], fields: { error: oneOf('invalid_code') } },
]

/** The token to be revoked is revoked or expired already. By RFC 7009 §2.2 this is a 200; many servers send an error. */
const REVOKED: readonly VendorError[] = [
  // Google ("Token expired or revoked") and Salesforce, which sends a form.
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

/** The same request may succeed later, though many of the codes mean something else elsewhere. */
const TEMPORARY: readonly VendorError[] = [
  // Slack responds with 200. docs.slack.dev, oauth.v2.access.
  { server: 'Slack', status: [200], fields: { ok: oneOf(false), error: oneOf(...SLACK_UNAVAILABLE) } },
  // Zoho limits how often a client requests tokens. help.zoho.com, "Troubleshooting OAuth2.0".
  {
    server: 'Zoho',
    status: [200, 400],
    fields: {
      error: oneOf('Access Denied'),
      error_description: oneOf(
        'You have made too many requests continuously. Please try again after some time.',
      ),
    },
  },
  // Facebook. developers.facebook.com, "Handling Errors": downtime (1, 2), throttling (4, 17, 341).
  {
    server: 'Facebook',
    status: [400, 401, 403],
    fields: { error: object({ type: oneOf('OAuthException'), code: oneOf(1, 2, 4, 17, 341) }) },
  },
  {
    server: 'Facebook',
    status: [400, 401, 403],
    fields: { error: object({ type: oneOf('OAuthException'), is_transient: oneOf(true) }) },
  },
]

/**
 * Error codes for "try again later" with any status: RFC 6749 §4.1.2.1, a new nonce (RFC 9449 §8), those of rate limits, and `internal_failure` of
 * Google, which Google's own libraries retry.
 */
const TEMPORARY_CODES: ReadonlySet<string> = new Set([
  ...['temporarily_unavailable', 'server_error', 'use_dpop_nonce'],
  ...['internal_failure', 'rate_limit_exceeded', 'too_many_requests'],
])

/**
 * AADSTS codes of Entra ID (learn.microsoft.com, "Microsoft Entra authentication and authorization error codes") that are
 * about the service, or about the number of requests. The refresh token stays valid.
 */
const ENTRA_TEMPORARY: ReadonlySet<number> = new Set([
  40010, // OAuth2IdPRetryableServerError: the federated identity provider has a problem.
  50033, // RetryableError: a transient error.
  50087, // SasRetryableError: a transient error of the strong authentication.
  50166, // ExternalClaimsProviderThrottled.
  50196, // LoopDetected: too many requests in too short a time. Also "Throttling" in the docs of MSAL.NET.
  70012, // MsaServerError: a server error about a user with a personal account, try again.
  90006, // ExternalServerRetryableError: the service is temporarily unavailable.
  90012, // RequestTimeout.
  90024, // RequestBudgetExceededError: a transient error, try again.
  90033, // MsodsServiceUnavailable: the directory is not available.
  90055, // TenantThrottlingError: too many incoming requests.
  90090, // GraphRetryableError: the service is temporarily unavailable.
  90091, // GraphServiceUnreachable.
])

/**
 * The error descriptions, in lower case, with which Salesforce refuses a refresh for the moment. It processes one refresh of a
 * refresh token at a time, and responds to parallel refreshes with 400, `invalid_grant` and one of these texts.
 * help.salesforce.com, release notes Summer '24 and Winter '25 (the second text is the older one);
 * segmentio/action-destinations#2300.
 */
const SALESFORCE_TEMPORARY: ReadonlySet<unknown> = new Set([
  'token request is already being processed',
  'expired authorization code',
])

/**
 * The `suberror` of Entra ID for a token that it issues only after the user has taken part: MFA or another policy of the API,
 * consent, a password that must be changed, the state of the device. The refresh token stays valid for everything else.
 * `bad_token`, `token_expired` and `client_mismatch` are about the refresh token, so they are not listed.
 * learn.microsoft.com, "Handle errors and exceptions in MSAL" (UiRequiredExceptionClassification, protection_policy_required).
 */
const ENTRA_INTERACTION: ReadonlySet<unknown> = new Set([
  'basic_action',
  'additional_action',
  'message_only',
  'consent_required',
  'user_password_expired',
  'protection_policy_required',
  'device_authentication_failed',
])

/**
 * The AADSTS codes of Entra ID, beside `invalid_grant`, for a token that it issues only after the user has taken part. They count
 * only in a response without a `suberror`: older endpoints send none. learn.microsoft.com, "Microsoft Entra authentication and
 * authorization error codes".
 */
const ENTRA_INTERACTION_CODES: ReadonlySet<number> = new Set([
  50072, // UserStrongAuthEnrollmentRequiredInterrupt: MFA must be set up.
  50074, // UserStrongAuthClientAuthNRequiredInterrupt: MFA is required.
  50076, // UserStrongAuthClientAuthNRequired: MFA is required for this API.
  50078, // UserStrongAuthExpired: the MFA of the login is too old.
  50079, // UserStrongAuthEnrollmentRequired: MFA must be set up.
  50097, // DeviceAuthenticationRequired.
  50158, // ExternalSecurityChallenge: an MFA that is not Microsoft's.
  53000, // DeviceNotCompliant.
  53001, // DeviceNotDomainJoined.
  53002, // ApplicationUsedIsNotAnApprovedApp.
  53003, // BlockedByConditionalAccess.
  53004, // ProofUpBlockedDueToRisk: MFA must be set up elsewhere.
  65001, // DelegationDoesNotExist: no consent to this API.
  65004, // UserDeclinedConsent.
])

/**
 * The `error_subtype` of Google, beside `invalid_grant`, if the administrator requires a new login at intervals. The refresh
 * token stays valid. support.google.com/a/answer/9368756; google-auth-library-python, reauth.py.
 */
const GOOGLE_INTERACTION: ReadonlySet<unknown> = new Set(['invalid_rapt', 'rapt_required'])

/** Whether a response to a refresh says that the refresh token is dead. */
export function isEndOfGrant(status: number, fields: JsonObject): boolean {
  return isListed(ENDED, status, fields)
}

/** Whether a response to a revocation says that the token is revoked or expired already. */
export function isRevokedAlready(status: number, fields: JsonObject): boolean {
  return isListed(REVOKED, status, fields)
}

/** Whether a response says that the same request may succeed later. */
export function isTemporary(status: number, code: string, fields: JsonObject, isRefresh: boolean): boolean {
  if (TEMPORARY_CODES.has(code) || entraCodes(fields).some((it) => ENTRA_TEMPORARY.has(it))) return true
  const description = fields.error_description
  const text = typeof description === 'string' ? description.toLowerCase() : undefined
  if (isRefresh && code === 'invalid_grant' && SALESFORCE_TEMPORARY.has(text)) return true
  return isListed(TEMPORARY, status, fields)
}

/** Whether a response says that the user must take part, though its code does not say so. */
export function isInteraction(code: string, fields: JsonObject): boolean {
  const { suberror, error_subtype: subtype } = fields
  if (ENTRA_INTERACTION.has(suberror)) return true
  if (code !== 'invalid_grant') return false
  return (
    GOOGLE_INTERACTION.has(subtype) ||
    (!suberror && entraCodes(fields).some((it) => ENTRA_INTERACTION_CODES.has(it)))
  )
}

/** Finds the codes of Entra ID in a response: in a field of their own, and at the beginning of the description. */
function entraCodes(fields: JsonObject): number[] {
  const { error_codes: codes, error_description: description } = fields
  const listed = Array.isArray(codes) ? codes.filter(isNumeric).map(Number) : []
  const [, described] = (typeof description === 'string' && /^AADSTS(\d+):/.exec(description)) || []
  return described === undefined ? listed : [...listed, Number(described)]
}

function isNumeric(code: unknown): code is string | number {
  return typeof code === 'string' || typeof code === 'number'
}

/** Tests for one of these values. `undefined` stands for a missing field. */
function oneOf(...values: readonly (string | number | boolean | undefined)[]): Test {
  return (value) => values.includes(value as string)
}

/** Tests for an object with these fields. */
function object(fields: Readonly<Record<string, Test>>): Test {
  return (value) => isJsonObject(value) && haveFields(value, fields)
}

/** Tests for a non-empty array of objects that all have these fields. */
function everyOne(fields: Readonly<Record<string, Test>>): Test {
  return (value) => Array.isArray(value) && value.length > 0 && value.every(object(fields))
}

function isListed(table: readonly VendorError[], status: number, fields: JsonObject): boolean {
  return table.some((row) => row.status.includes(status) && haveFields(fields, row.fields))
}

function haveFields(fields: JsonObject, tests: Readonly<Record<string, Test>>): boolean {
  return Object.entries(tests).every(([name, test]) =>
    test(Object.hasOwn(fields, name) ? fields[name] : undefined),
  )
}

import type { Fields } from './fields.js'
import { isListed, object, oneOf, type Wording } from './wording.js'

/** Error codes that say to come again later, whatever the status: RFC 6749 §4.1.2.1, Google's, and those of rate limits. */
const CODES: ReadonlySet<string> = new Set([
  'temporarily_unavailable',
  'server_error',
  // Google, with a 4xx at times; its own libraries ask again.
  'internal_failure',
  'rate_limit_exceeded',
  'too_many_requests',
])

const SLACK = ['ratelimited', 'service_unavailable', 'internal_error', 'fatal_error', 'request_timeout']

/** The responses by which servers say "not now", most of them with a code that stands for something else elsewhere. */
const TEMPORARY: readonly Wording[] = [
  // Slack answers 200. docs.slack.dev, oauth.v2.access.
  { server: 'Slack', status: [200], fields: { ok: oneOf(false), error: oneOf(...SLACK) } },
  // Zoho limits how often tokens are asked for. help.zoho.com, "Troubleshooting OAuth2.0".
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
 * AADSTS codes of Entra ID (learn.microsoft.com, "Microsoft Entra authentication and authorization error codes") that are
 * about the service, or about how often it was asked: the refresh token stays good.
 */
const ENTRA: ReadonlySet<number> = new Set([
  50196, // LoopDetected: too many requests in too short a time. Also "Throttling" in the docs of MSAL.NET.
  90006, // ExternalServerRetryableError: the service is temporarily unavailable.
  90012, // RequestTimeout.
  90024, // RequestBudgetExceededError: a transient error, try again.
  90033, // MsodsServiceUnavailable: the directory is not available.
  90055, // TenantThrottlingError: too many incoming requests.
])

/**
 * Salesforce lets one refresh of a refresh token through at a time, and answers the others with 400 and `invalid_grant`.
 * help.salesforce.com, release notes Summer '24 and Winter '25 (the second wording is the older one); segmentio/action-destinations#2300.
 */
const SALESFORCE: ReadonlySet<unknown> = new Set([
  'token request is already being processed',
  'expired authorization code',
])

/** Whether a response says that the same request may succeed later. */
export function isTemporary(status: number, code: string, fields: Fields, isRefresh: boolean): boolean {
  if (CODES.has(code) || entraCodes(fields).some((it) => ENTRA.has(it))) return true
  if (isRefresh && code === 'invalid_grant' && SALESFORCE.has(lowerCased(fields.error_description))) {
    return true
  }
  return isListed(TEMPORARY, status, fields)
}

/** The codes of Entra ID in a response: in a field of their own, and at the very beginning of the description. */
function entraCodes(fields: Fields): number[] {
  const { error_codes: codes, error_description: description } = fields
  const listed = Array.isArray(codes) ? codes.map(Number) : []
  const [, described] = (typeof description === 'string' && /^AADSTS(\d+):/.exec(description)) || []
  return described === undefined ? listed : [...listed, Number(described)]
}

function lowerCased(value: unknown): unknown {
  return typeof value === 'string' ? value.toLowerCase() : value
}

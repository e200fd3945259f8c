import type { StepUp } from '../errors.js'
import { type Fields, isFields } from './fields.js'

/** Error codes that want the user: OpenID Connect Core §3.1.2.6, OpenID Connect's acr error code, RFC 9470, Auth0's MFA. */
export const INTERACTION_CODES: ReadonlySet<string> = new Set([
  'interaction_required',
  'login_required',
  'consent_required',
  'account_selection_required',
  'unmet_authentication_requirements',
  'insufficient_user_authentication',
  'mfa_required',
])

/**
 * What Entra ID says beside `invalid_grant` and others of a token that it does not issue without the user: MFA or another
 * policy of the API, consent, a password that has to be changed, the state of the device. The refresh token stays good for
 * everything else. `bad_token`, `token_expired` and `client_mismatch` are not among them: these are about the refresh token.
 * learn.microsoft.com, "Handle errors and exceptions in MSAL" (UiRequiredExceptionClassification, protection_policy_required).
 */
const ENTRA_SUBERRORS: ReadonlySet<unknown> = new Set([
  'basic_action',
  'additional_action',
  'message_only',
  'consent_required',
  'user_password_expired',
  'protection_policy_required',
  'device_authentication_failed',
])

/**
 * What Google says beside `invalid_grant` where the administrator wants the user to log in again at times. The refresh token
 * stays good. support.google.com/a/answer/9368756; google-auth-library-python, reauth.py.
 */
const GOOGLE_SUBTYPES: ReadonlySet<unknown> = new Set(['invalid_rapt', 'rapt_required'])

/** What a refused request asks of the user; `undefined` where it asks nothing. */
export function interactionIn(code: string, fields: Fields): StepUp | undefined {
  const wanted = text(fields.claims) ?? (isFields(fields.claims) ? JSON.stringify(fields.claims) : undefined)
  if (!INTERACTION_CODES.has(code) && !isVendors(code, fields) && !(code === 'invalid_grant' && wanted)) {
    return undefined
  }
  const acrValues = list(fields.acr_values)
  const maxAge = seconds(fields.max_age)
  const scope = list(fields.scope)
  return {
    ...(acrValues !== undefined && { acrValues }),
    ...(maxAge !== undefined && { maxAge }),
    ...(scope !== undefined && { scope }),
    ...(wanted !== undefined && { claims: wanted }),
  }
}

function isVendors(code: string, { suberror, error_subtype: subtype }: Fields): boolean {
  return ENTRA_SUBERRORS.has(suberror) || (code === 'invalid_grant' && GOOGLE_SUBTYPES.has(subtype))
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}

function list(value: unknown): string | undefined {
  if (!Array.isArray(value)) return text(value)
  return value.length > 0 && value.every((it) => typeof it === 'string') ? value.join(' ') : undefined
}

function seconds(value: unknown): number | undefined {
  const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value
  return typeof number === 'number' && Number.isSafeInteger(number) && number >= 0 ? number : undefined
}

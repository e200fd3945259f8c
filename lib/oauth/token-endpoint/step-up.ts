import type { StepUp } from '../../errors/token-error.js'
import { isJsonObject, type JsonObject } from '../../options/own-properties.js'
import { isInteraction } from './vendor-errors.js'

/** Error codes that require the user: OpenID Connect Core §3.1.2.6, OpenID Connect's acr error code, RFC 9470, Auth0's MFA. */
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
 * Reads the requirements of an error response for the next login. Returns `undefined` if the response requires nothing of the
 * user.
 */
export function stepUpIn(code: string, fields: JsonObject): StepUp | undefined {
  const claims =
    text(fields.claims) ?? (isJsonObject(fields.claims) ? JSON.stringify(fields.claims) : undefined)
  const hasChallenge = code === 'invalid_grant' && claims !== undefined
  if (!INTERACTION_CODES.has(code) && !isInteraction(code, fields) && !hasChallenge) return undefined
  const acrValues = list(fields.acr_values)
  const maxAge = seconds(fields.max_age)
  const scope = list(fields.scope)
  return {
    ...(acrValues !== undefined && { acrValues }),
    ...(maxAge !== undefined && { maxAge }),
    ...(scope !== undefined && { scope }),
    ...(claims !== undefined && { claims }),
  }
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

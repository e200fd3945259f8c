import type { Attributes } from '@opentelemetry/api'
import type { TokenError } from '../errors/token-error.js'

/** The name of the tracer and the meter. */
export const SCOPE = 'session-token-manager'

/** The names of attributes that no semantic convention has. */
export const ATTRIBUTE = {
  breakerOf: 'session_token_manager.breaker.of',
  eventType: 'session_token_manager.event.type',
  grantId: 'session_token_manager.grant.id',
  leaseWait: 'session_token_manager.lease.wait',
  loginType: 'session_token_manager.login.type',
  outcome: 'session_token_manager.outcome',
  reason: 'session_token_manager.reason',
  tenant: 'session_token_manager.tenant',
  waiting: 'session_token_manager.waiting',
} as const

/** Returns the `error.type` of an error: the code of its cause if there is one, such as ECONNREFUSED, or its own. */
export function errorType({ cause, code }: TokenError): string {
  const { code: causeCode } = (cause ?? {}) as { code?: unknown }
  return typeof causeCode === 'string' ? causeCode : code
}

/** Returns the attributes that are known. */
export function known(attributes: Readonly<Record<string, string | number | undefined>>): Attributes {
  return Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined))
}

import { TokenError } from '../errors/token-error.js'
import { ownValue, parseJsonObject } from '../options/own-properties.js'
import type { ManagerContext } from './manager-context.js'

type RetryAfterContext = Pick<
  ManagerContext,
  'clock' | 'emit' | 'health' | 'registry' | 'serverName' | 'shared'
>

/**
 * Tells the other processes that the authorization server asked for a pause (`Retry-After`): for all grants, or after a 429 for
 * one grant. Does nothing after another failure.
 */
export function tellRetryAfter(context: RetryAfterContext, grantId: string, error: TokenError): void {
  const { retryAfterMs, responseStatus } = error
  if (!retryAfterMs || responseStatus === undefined) return
  const isOfGrant = responseStatus === 429 && !context.health.isFailing
  const text = { server: context.serverName, retryAfterMs, ...(isOfGrant && { grantId }) }
  void context.shared.news.publish(JSON.stringify(text))
}

/** Sends no request to the authorization server for as long as it has asked another process to wait. Ignores every other text. */
export function hearRetryAfter(context: RetryAfterContext, text: string): void {
  const { clock, emit, health, registry, serverName } = context
  const told = parseJsonObject(text)
  const retryAfterMs = told && ownValue(told, 'retryAfterMs')
  if (!told || typeof retryAfterMs !== 'number' || ownValue(told, 'server') !== serverName) return
  const error = toldError(retryAfterMs)
  const grantId = ownValue(told, 'grantId')
  if (typeof grantId === 'string') {
    registry.peek(grantId)?.backoff.pause(error, clock.monotonic())
    return
  }
  const change = health.pause(error)
  if (change) emit({ ...change, of: 'authorization_server' })
}

function toldError(retryAfterMs: number): TokenError {
  return new TokenError(
    'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    'The authorization server has asked another process to wait (Retry-After).',
    { retryAfterMs },
  )
}

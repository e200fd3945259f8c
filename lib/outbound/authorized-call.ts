import { StepUpError, TokenError } from '../errors.js'
import type { TokenNeed } from '../token-set.js'
import type { OutboundTokens } from '../token-source.js'
import type { Verdict } from './challenge.js'
import type { Secrets } from './cleaning.js'
import type { Replay } from './outbound-options.js'

const IDEMPOTENT: readonly string[] = ['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE']

/** Whether a method may be sent again. The methods that RFC 9110 §9.2.2 calls idempotent are. */
export function mayReplay(replay: Replay, method: string): boolean {
  return replay === 'always' || (replay === 'idempotent' && IDEMPOTENT.includes(method.toUpperCase()))
}

/** What came of sending a request once. */
export interface Attempt<Answer> {
  readonly verdict: Verdict
  /** Gives the caller what came of it, or throws it. */
  settle(): Answer
  /** Frees the connection of an answer that nobody will read. */
  discard(): void
}

/** A request, and what is known of the token that goes with it. */
export interface AuthorizedCall<Answer> {
  readonly tokens: OutboundTokens
  readonly need: TokenNeed
  /** `false` when the body cannot be sent twice, or the app does not want it to be. */
  readonly mayReplay: boolean
  /**
   * Sends the request, with a token unless the route's policy has it carry none.
   *
   * @param secrets what no error of the request may show: all tokens of the session, and those that were sent
   */
  send(token: string | undefined, secrets: Secrets): Promise<Attempt<Answer>>
  /** Waits for a token, but no longer than the caller does. */
  wait<T>(work: Promise<T>): Promise<T>
}

/**
 * Sends a request with a valid access token. When the API refuses the token, that is reported, and the request sent once
 * more with the token that there is then.
 */
export async function sendAuthorized<Answer>(call: AuthorizedCall<Answer>): Promise<Answer> {
  const token = await tokenFor(call, call.need)
  const sent = [token]
  const secrets = () => [...sent, ...call.tokens.secrets()].filter((secret) => secret !== undefined)
  const first = await call.send(token, secrets)
  if (token === undefined || first.verdict !== 'refused') return settled(first)
  const next = await anotherToken(call, first, token)
  if (next === token || !call.mayReplay) return first.settle()

  first.discard()
  sent.push(next)
  return settled(await call.send(next, secrets))
}

/** A token in place of the one that was refused. Without one, nobody gets to see the answer that refused it. */
async function anotherToken<Answer>(
  call: AuthorizedCall<Answer>,
  refused: Attempt<Answer>,
  rejected: string,
): Promise<string | undefined> {
  try {
    return await tokenFor(call, { ...call.need, rejected })
  } catch (error) {
    // What is not sent again is answered by the API; that it refused the token has been reported.
    if (!call.mayReplay && error instanceof TokenError) return undefined
    refused.discard()
    throw error
  }
}

async function tokenFor<Answer>(
  { tokens, wait }: AuthorizedCall<Answer>,
  need: TokenNeed,
): Promise<string | undefined> {
  const accessToken = await wait(tokens.tokenToSend(need))
  if (!accessToken) return undefined
  requireBearer(accessToken.tokenType)
  return accessToken.token
}

function settled<Answer>(attempt: Attempt<Answer>): Answer {
  if (!(attempt.verdict instanceof StepUpError)) return attempt.settle()
  attempt.discard()
  throw attempt.verdict
}

function requireBearer(tokenType: string): void {
  if (tokenType.toLowerCase() === 'bearer') return
  throw new TokenError(
    'ERR_INVALID_TOKEN_RESPONSE',
    'The access token is not a bearer token, and no other can be sent. Use getAccessToken() and send it yourself.',
  )
}

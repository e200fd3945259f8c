import { StepUpError } from '../errors/token-error.js'
import { type OutboundCallMessage, outboundCalls } from '../tokens/diagnostics.js'
import type { Attempt, AuthorizedCall } from './authorized-call.js'

type Send = <Response>(call: AuthorizedCall<Response>) => Promise<Response>

/** Sends a call, and publishes its outcome on the diagnostics channel. */
export async function publishing<Response>(call: AuthorizedCall<Response>, send: Send): Promise<Response> {
  const startedAt = performance.now()
  let sent = 0
  let last: Attempt<Response> | undefined
  const watched: AuthorizedCall<Response> = {
    ...{ method: call.method, url: call.url, tokens: call.tokens, need: call.need },
    clientCertificate: call.clientCertificate,
    get mayReplay() {
      return call.mayReplay
    },
    async send(authorization, secrets) {
      sent += 1
      last = undefined
      last = await call.send(authorization, secrets)
      return last
    },
    wait: (work) => call.wait?.(work) ?? work,
  }
  const publish = (error?: unknown) => {
    const { status } = last ?? { status: 0 }
    const message: OutboundCallMessage = {
      origin: new URL(call.url).origin,
      method: call.method.toUpperCase(),
      outcome: sent === 0 ? 'no_token' : outcomeOf(last, error),
      ...(status !== 0 && { status }),
      isReplayed: sent > 1,
      durationMs: Math.round(performance.now() - startedAt),
    }
    outboundCalls.publish(message)
  }
  try {
    const response = await send(watched)
    publish()
    return response
  } catch (error) {
    publish(error)
    throw error
  }
}

function outcomeOf(last: Attempt<unknown> | undefined, error: unknown): OutboundCallMessage['outcome'] {
  if (error instanceof StepUpError) return 'step_up'
  if (!last || last.status === 0) return 'failed'
  return last.status === 401 && last.sawToken ? 'token_rejected' : 'response'
}

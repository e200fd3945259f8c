import { type AxiosResponse, default as axios } from 'axios'
import type { DpopProofs } from '../../tokens/token-source.js'
import { sendProven } from '../proven-request.js'
import { isStream } from '../streams.js'
import type { Hop } from './redirects.js'
import { discard } from './responses.js'

/** The outcome of one request: an adapter of the app rejects for a status that the app does not accept. */
interface Outcome {
  readonly response: AxiosResponse | undefined
  readonly error?: unknown
}

/** Sends one request of axios with a proof, and once more if the API asks for a nonce. */
export async function sendHopProven(
  dpop: DpopProofs,
  { config, url }: Hop,
  sendOnce: (proof: string) => Promise<AxiosResponse>,
): Promise<AxiosResponse> {
  const outcome = await sendProven<Outcome>(dpop, {
    method: (config.method ?? 'get').toUpperCase(),
    url,
    mayRepeat: () => !isStream(config.data),
    send: (proof) => sendOnce(proof).then((response) => ({ response }), failed),
    read: ({ response }) => ({
      status: response?.status ?? 0,
      header: (name) => response?.headers?.[name] as string | undefined,
    }),
    discard({ response }) {
      if (response) discard(response)
    },
  })
  if (Object.hasOwn(outcome, 'error')) throw outcome.error
  return outcome.response!
}

function failed(error: unknown): Outcome {
  return { error, response: axios.isAxiosError(error) ? error.response : undefined }
}

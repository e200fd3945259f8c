import type { DpopProofs, ProvenResponse } from '../tokens/token-source.js'
import { refusalOfProof } from './challenge.js'

/** One request of a call whose token is bound to a key, as one HTTP client sends it. */
export interface ProvenRequest<Response> {
  /** The method as it is sent. */
  readonly method: string
  readonly url: string
  /** Whether the request can be sent again. It is asked after the response. */
  mayRepeat(): boolean
  /** Sends the request with a proof, once, and follows no redirect. */
  send(proof: string): Promise<Response>
  /** Reads the status and the headers of a response; 0 without a response. */
  read(response: Response): ProvenResponse & { readonly status: number }
  /** Frees the connection of a response that will not be read. */
  discard(response: Response): void
}

/**
 * Sends a request with the proof that this process holds the key of its token (RFC 9449 §7). When the API asks for a nonce, the
 * request is sent once more with the nonce, if its body can be sent again: the API has not processed the first request (§9).
 */
export async function sendProven<Response>(
  dpop: DpopProofs,
  request: ProvenRequest<Response>,
): Promise<Response> {
  const { method, url } = request
  const first = await request.send(await dpop.proof(method, url))
  const { header, status } = request.read(first)
  const isNewNonce = dpop.learn(url, { header })
  const refusal = refusalOfProof(status, header('www-authenticate') ?? '')
  if (refusal === undefined) return first
  dpop.noteRefusal(url, { header })
  if (refusal !== 'use_dpop_nonce' || !isNewNonce || !request.mayRepeat()) return first
  request.discard(first)
  const second = await request.send(await dpop.proof(method, url))
  dpop.learn(url, request.read(second))
  return second
}

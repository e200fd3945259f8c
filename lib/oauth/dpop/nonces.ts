/** How many origins are remembered. The origin whose nonce is the oldest is forgotten first. */
const MAX_ORIGINS = 1_000
/** The characters of a nonce (RFC 9449 §8.1), and how many it may have. */
const NONCE = /^[\x21\x23-\x5b\x5d-\x7e]{1,1024}$/

/**
 * The newest DPoP nonce of each server, by the server's origin (RFC 9449 §8, §9). At most {@link MAX_ORIGINS} origins have one.
 */
export class Nonces {
  readonly #newest = new Map<string, string>()

  of(origin: string): string | undefined {
    return this.#newest.get(origin)
  }

  /** Keeps a nonce. A text that is no nonce changes nothing. */
  keep(origin: string, nonce: string): void {
    if (!NONCE.test(nonce)) return
    this.#newest.delete(origin)
    this.#newest.set(origin, nonce)
    if (this.#newest.size <= MAX_ORIGINS) return
    const [oldest] = this.#newest.keys()
    this.#newest.delete(oldest!)
  }
}

import { randomUUID } from 'node:crypto'
import { SignJWT } from 'jose'
import type { DpopKey } from '../../tokens/dpop-key.js'
import { digestOf } from '../../tokens/grant-proof.js'
import type { DpopProofs, ProvenResponse } from '../../tokens/token-source.js'
import type { CheckedDpopOptions } from './dpop-options.js'
import { newDpopKey, signingDpopKey, thumbprintOf } from './keys.js'
import { Nonces } from './nonces.js'

/** A server's clock that differs by more than this, in milliseconds, is reported: some servers refuse such a proof. */
const CLOCK_TOLERANCE_MS = 30_000

export interface DpopContext {
  /** The time, in milliseconds since the epoch. */
  readonly now: () => number
  /** Called when a server refuses a proof and its clock differs from ours by `offMs`. `offMs` is positive if our clock is ahead. */
  readonly onClockOff: (origin: string, offMs: number) => void
}

/** Proves the possession of keys (RFC 9449): makes keys and proofs, and remembers the nonces of servers. */
export class Dpop {
  /** Whether a bearer token is accepted in place of a DPoP token. */
  readonly acceptsBearer: boolean
  readonly #alg: CheckedDpopOptions['alg']
  readonly #context: DpopContext
  /** An authorization server and an API have nonces of their own, even at one origin (RFC 9449 §8.2). */
  readonly #ofServer = new Nonces()
  readonly #ofApis = new Nonces()

  constructor({ alg, bearer }: CheckedDpopOptions, context: DpopContext) {
    this.acceptsBearer = bearer === 'accept'
    this.#alg = alg
    this.#context = context
  }

  /** Makes the key of a grant. */
  newKey(): Promise<DpopKey> {
    return newDpopKey(this.#alg)
  }

  /** Returns the thumbprint of a key, for `dpop_jkt`. */
  thumbprint(key: DpopKey): Promise<string> {
    return thumbprintOf(key)
  }

  /** Returns the proofs of one request to the authorization server. */
  forServer(key: DpopKey): DpopProofs {
    return new Proofs(key, undefined, this.#ofServer, this.#context)
  }

  /** Returns the proofs of one call to an API, which carries an access token. */
  forApi(key: DpopKey, accessToken: string): DpopProofs {
    return new Proofs(key, accessToken, this.#ofApis, this.#context)
  }

  /** Keeps a DPoP nonce that an API has sent to an HTTP client of the app. The next proofs for the API's origin have this nonce. */
  keepNonce(url: string, nonce: string): void {
    this.#ofApis.keep(new URL(url).origin, nonce)
  }
}

/** The proofs of one call, which may lead to several requests: redirects, and repetitions. */
class Proofs implements DpopProofs {
  readonly made: string[] = []
  readonly #key: DpopKey
  readonly #accessToken: string | undefined
  readonly #nonces: Nonces
  readonly #context: DpopContext
  /** The nonce of the last proof. */
  #nonce: string | undefined

  constructor(key: DpopKey, accessToken: string | undefined, nonces: Nonces, context: DpopContext) {
    this.#key = key
    this.#accessToken = accessToken
    this.#nonces = nonces
    this.#context = context
  }

  async proof(method: string, url: string): Promise<string> {
    const { origin, pathname } = new URL(url)
    const { key, alg, jwk } = await signingDpopKey(this.#key)
    this.#nonce = this.#nonces.of(origin)
    const claims = {
      jti: randomUUID(),
      htm: method,
      htu: `${origin}${pathname}`,
      iat: Math.floor(this.#context.now() / 1000),
      ...(this.#accessToken !== undefined && { ath: digestOf(this.#accessToken) }),
      ...(this.#nonce !== undefined && { nonce: this.#nonce }),
    }
    const proof = await new SignJWT(claims).setProtectedHeader({ typ: 'dpop+jwt', alg, jwk }).sign(key)
    this.made.push(proof)
    return proof
  }

  learn(url: string, { header }: ProvenResponse): boolean {
    const nonce = header('dpop-nonce') ?? undefined
    if (nonce === undefined) return false
    this.#nonces.keep(new URL(url).origin, nonce)
    return nonce !== this.#nonce
  }

  noteRefusal(url: string, { header }: ProvenResponse): void {
    const theirs = Date.parse(header('date') ?? '')
    const offMs = this.#context.now() - theirs
    if (Math.abs(offMs) > CLOCK_TOLERANCE_MS) this.#context.onClockOff(new URL(url).origin, offMs)
  }
}

import { createHmac } from 'node:crypto'
import { ownProperties, parseJsonObject } from '../../options/own-properties.js'
import { ADOPTED, digestOf, grantIdOf, hasProof } from '../../tokens/grant-proof.js'
import type { TokenSet } from '../../tokens/token-set.js'
import type { Seal } from './sealing.js'

/** A reference to a grant for code that has no session, such as a job. */
export interface OfflineReference extends Pick<TokenSet, 'grantId' | 'proof' | 'share'> {
  /** The least time for which the grant store keeps the grant after each refresh by this reference, in milliseconds. */
  readonly keepMs: number
  /** The time until which the grant store was asked to keep the grant, in milliseconds since the epoch. */
  readonly keptUntil: number
}

/** The version of the format below. */
const VERSION = 1

/**
 * Turns references into opaque texts and back. A text is of use to one client and one session key only. It holds the proof of the
 * grant, so the id of a grant is of no use without it. Reading never throws.
 *
 * With a seal, a text can neither be read nor forged. Without one it holds a code that is made from the proof, so that a text with
 * a changed byte is refused. Then the text alone gives access to the grant.
 */
export class OfflineReferenceCodec {
  readonly #audience: string
  readonly #seal: Seal | undefined

  /** @param audience names the client and its authorization server, and the session key */
  constructor(audience: string, seal: Seal | undefined) {
    this.#audience = audience
    this.#seal = seal
  }

  /** Returns the text; `undefined` for a grant without a proof that may be shown, if there is no seal. */
  write({ grantId, proof, share, keepMs, keptUntil }: OfflineReference): string | undefined {
    // The proof of an adopted grant is a token.
    const key = grantId.startsWith(ADOPTED) ? undefined : proof
    const content = { version: VERSION, audience: this.#audience, grantId, key, share, keepMs, keptUntil }
    const text = JSON.stringify(content)
    if (this.#seal) return this.#seal.seal(text)
    if (key === undefined || !hasProof(grantId)) return undefined
    const body = Buffer.from(text).toString('base64url')
    return `${body}.${codeOf(key, body)}`
  }

  /** Returns `undefined` for a text of another client or session key, and for a text that was changed. */
  read(text: string): OfflineReference | undefined {
    return this.#seal ? this.#readSealed(text, this.#seal) : this.#readPlain(text)
  }

  #readSealed(text: string, seal: Seal): OfflineReference | undefined {
    return isCanonical(text) ? this.#contentOf(seal.open(text)) : undefined
  }

  #readPlain(text: string): OfflineReference | undefined {
    const [body = '', code = '', ...more] = text.split('.')
    if (more.length > 0) return undefined
    const reference = this.#contentOf(Buffer.from(body, 'base64url').toString())
    if (reference?.proof === undefined || !hasProof(reference.grantId)) return undefined
    // Digests are compared, so the duration of the comparison reveals nothing about the code.
    return digestOf(code) === digestOf(codeOf(reference.proof, body)) ? reference : undefined
  }

  #contentOf(text: string | undefined): OfflineReference | undefined {
    const content = text === undefined ? undefined : parseJsonObject(text)
    if (content?.version !== VERSION || content.audience !== this.#audience) return undefined
    const { grantId, key, share, keepMs, keptUntil } = content
    if (typeof grantId !== 'string' || !Number.isFinite(keepMs) || !Number.isFinite(keptUntil))
      return undefined
    if (!isTextOrAbsent(key) || !isTextOrAbsent(share)) return undefined
    if (hasProof(grantId) && (key === undefined || grantId !== grantIdOf(key))) return undefined
    return ownProperties({
      grantId,
      ...(key !== undefined && { proof: key }),
      ...(share !== undefined && { share }),
      keepMs: keepMs as number,
      keptUntil: keptUntil as number,
    })
  }
}

function isTextOrAbsent(value: unknown): value is string | undefined {
  return value === undefined || typeof value === 'string'
}

/** Whether no other text decodes to the same bytes. The last character of Base64url may have bits that do not count. */
function isCanonical(text: string): boolean {
  return text.split('.').every((part) => Buffer.from(part, 'base64url').toString('base64url') === part)
}

function codeOf(key: string, body: string): string {
  return createHmac('sha256', key)
    .update(`session-token-manager offline reference\n${body}`)
    .digest('base64url')
}

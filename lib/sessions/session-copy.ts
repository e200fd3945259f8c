import type { AccessToken, TokenSet } from '../token-set.js'

/** The version of the format below. A copy of another version counts as none. */
const VERSION = 1

/**
 * The token set as a session holds it: a text, opaque to the app. Copy it along when a session is regenerated, and
 * otherwise leave it to `req.tokens`.
 */
export type SessionCopy = string

/**
 * Turns token sets into session copies of one client and back. Reading never throws: what is not a copy of ours is
 * `undefined`.
 *
 * A copy is a text, since session layers go through a session value by value, several times for each request.
 */
export class SessionCopies {
  readonly #audience: string
  /** The copy that was read last: one request asks about the same one several times in a row. */
  #last: { readonly copy: string; readonly tokens: TokenSet | undefined } | undefined

  /** @param audience names the client and its authorization server; copies of another audience are refused */
  constructor(audience: string) {
    this.#audience = audience
  }

  write(tokens: TokenSet): SessionCopy {
    return JSON.stringify({ version: VERSION, audience: this.#audience, ...tokens })
  }

  read(copy: unknown): TokenSet | undefined {
    if (typeof copy !== 'string') return undefined
    if (this.#last?.copy !== copy) this.#last = { copy, tokens: this.#parse(copy) }
    return this.#last.tokens
  }

  #parse(copy: string): TokenSet | undefined {
    const content = parsed(copy)
    if (content?.version !== VERSION || content.audience !== this.#audience) return undefined
    const { grantId, revision, refreshToken, idToken, accessTokens } = content
    if (typeof grantId !== 'string' || grantId === '') return undefined
    if (!Number.isSafeInteger(revision) || (revision as number) < 1) return undefined
    if (!isTextOrAbsent(refreshToken) || !isTextOrAbsent(idToken)) return undefined
    if (!Array.isArray(accessTokens) || !accessTokens.every(isAccessToken)) return undefined
    return {
      grantId,
      revision: revision as number,
      accessTokens,
      ...(refreshToken !== undefined && { refreshToken }),
      ...(idToken !== undefined && { idToken }),
    }
  }
}

function parsed(copy: string): Record<string, unknown> | undefined {
  try {
    const content: unknown = JSON.parse(copy)
    return isRecord(content) ? content : undefined
  } catch {
    return undefined
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

function isTextOrAbsent(value: unknown): value is string | undefined {
  return value === undefined || (typeof value === 'string' && value !== '')
}

function isAccessToken(value: unknown): value is AccessToken {
  return (
    isRecord(value) &&
    typeof value.token === 'string' &&
    value.token !== '' &&
    typeof value.tokenType === 'string' &&
    value.tokenType !== '' &&
    isTextOrAbsent(value.scope) &&
    isTextOrAbsent(value.requestedScope) &&
    isTextOrAbsent(value.resource) &&
    Number.isFinite(value.obtainedAt) &&
    Number.isFinite(value.expiresAt)
  )
}

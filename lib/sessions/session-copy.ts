import type { AccessToken, TokenSet } from '../token-set.js'

/** The version of the format below. A copy of another version counts as none. */
const VERSION = 1

/**
 * The token set as a session holds it. Opaque to the app: copy it along when a session is regenerated, and otherwise
 * leave it to `req.tokens`.
 */
export interface SessionCopy {
  readonly version: 1
  /** The client and the authorization server that the tokens belong to. */
  readonly audience: string
  readonly grantId: string
  readonly revision: number
}

/** Turns token sets into session copies of one client and back. Reading never throws: what is not a copy of ours is `undefined`. */
export class SessionCopies {
  readonly #audience: string

  /** @param audience names the client and its authorization server; copies of another audience are refused */
  constructor(audience: string) {
    this.#audience = audience
  }

  write(tokens: TokenSet): SessionCopy {
    return { version: VERSION, audience: this.#audience, ...tokens }
  }

  read(copy: unknown): TokenSet | undefined {
    if (!isRecord(copy) || copy.version !== VERSION || copy.audience !== this.#audience) return undefined
    const { grantId, revision, refreshToken, idToken, accessTokens } = copy
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

  /** The text that a grant store keeps. */
  serialize(tokens: TokenSet): string {
    return JSON.stringify(this.write(tokens))
  }

  parse(text: string): TokenSet | undefined {
    try {
      return this.read(JSON.parse(text))
    } catch {
      return undefined
    }
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
    isTextOrAbsent(value.scope) &&
    isTextOrAbsent(value.requestedScope) &&
    isTextOrAbsent(value.resource) &&
    Number.isFinite(value.obtainedAt) &&
    Number.isFinite(value.expiresAt)
  )
}

import { ConfigurationError, type TokenError } from '../errors/token-error.js'
import { readLogoutToken } from '../oauth/logout-token.js'
import type { EndsOfUsers } from './ends-of-users.js'
import { isFirstUse } from './first-use.js'
import type { ManagerContext } from './manager-context.js'

export interface BackchannelLogoutContext
  extends Pick<ManagerContext, 'audience' | 'clientId' | 'clock' | 'issuer' | 'server' | 'shared'> {
  readonly endsOfUsers: EndsOfUsers
}

/** How long a logout token is remembered after its expiry, for clocks that differ, in milliseconds. */
const AFTER_EXPIRY_MS = 120_000

/** Logs users out when the authorization server says so (OpenID Connect Back-Channel Logout 1.0). */
export class BackchannelLogout {
  readonly #context: BackchannelLogoutContext

  constructor(context: BackchannelLogoutContext) {
    this.#context = context
  }

  /** @throws `ConfigurationError` if logout tokens cannot be checked, since no issuer is configured */
  requireIssuer(): string {
    const { issuer } = this.#context
    if (issuer !== undefined) return issuer
    throw new ConfigurationError(
      'backchannelLogout() needs the option `issuer`: a logout token must name it, and its keys check the signature.',
    )
  }

  /**
   * Ends the grants that a logout token is about, if they are older than it. Resolves with the flaw of the token, as a text that
   * follows "The logout token …"; with `undefined` if the token has no flaw.
   *
   * @throws `TokenError` if the token could not be checked or used now. The authorization server may send it again.
   */
  async use(text: string): Promise<string | undefined> {
    const { clientId, clock, endsOfUsers, server } = this.#context
    const token = readLogoutToken(text, { clientId, issuer: this.requireIssuer(), now: clock.now() })
    if (typeof token === 'string') return token
    const signature = await server.signatureOfLogoutToken(text)
    if (signature.verdict === 'bad') return signature.why
    if (signature.verdict === 'unknown') return uncheckable(signature.error)
    const end = await endsOfUsers.prepareLogout(token)
    // From here on nothing fails: an end that the grant store does not take is stored later.
    const ttlMs = Math.max(0, token.exp * 1000 - clock.now()) + AFTER_EXPIRY_MS
    if (!(await isFirstUse(this.#context, 'logout token', token.jti, ttlMs)))
      return 'has been used before (jti)'
    await end()
    return undefined
  }
}

/** Returns the flaw of the signature. Throws if the issuer's keys cannot be fetched now. */
function uncheckable(error: TokenError): string {
  if (error.code !== 'ERR_INVALID_TOKEN_RESPONSE') throw error
  return "has no signature that the issuer's keys can check"
}

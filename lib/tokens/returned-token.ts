import { ConfigurationError } from '../errors/token-error.js'
import type { AccessToken } from './access-token.js'
import type { ValidAccessToken } from './token-source.js'

/** The result of `getAccessToken()`. It throws when it is used as a text by mistake, as in `'Bearer ' + accessToken`. */
export class ReturnedToken implements ValidAccessToken {
  readonly token: string
  readonly tokenType: string
  readonly expiresAt: number
  declare readonly scope?: string

  /** @param scheme the `tokenType` of the result. Default: the token's own type */
  constructor({ token, tokenType, expiresAt, scope }: AccessToken, scheme = tokenType) {
    this.token = token
    this.tokenType = scheme
    this.expiresAt = expiresAt
    if (scope !== undefined) this.scope = scope
  }

  /** @throws `ConfigurationError`: an API would get the text `[object Object]` */
  [Symbol.toPrimitive](): never {
    throw new ConfigurationError(
      'getAccessToken() resolves with an object, which is used as a text here. Take its token: ' +
        "const { token } = await req.tokens.getAccessToken(), then 'Bearer ' + token.",
    )
  }
}

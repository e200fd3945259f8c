import { ConfigurationError } from '../../errors/token-error.js'
import { oneOf } from '../../options/option-kinds.js'
import { type Checked, checkOptions, type Option, type OptionTable } from '../../options/option-table.js'

/** How tokens are bound to keys (RFC 9449). */
export interface DpopOptions {
  /** The algorithm of new keys. A key that a session already has keeps its own. Default: `'ES256'`. */
  readonly alg?: 'ES256' | 'EdDSA' | 'PS256'
  /**
   * How a bearer token in place of a DPoP token is treated: `'refuse'` fails the login or the refresh, `'accept'` uses the token
   * as a bearer token. Default: `'refuse'`.
   */
  readonly bearer?: 'refuse' | 'accept'
}

const OPTIONS = {
  alg: oneOf(['ES256', 'EdDSA', 'PS256']),
  bearer: oneOf(['refuse', 'accept']),
} satisfies OptionTable<DpopOptions>

export type CheckedDpopOptions = Checked<DpopOptions, typeof OPTIONS>

/** Checks the option `dpop`. `false` is as if it were left out. */
export function checkDpop(
  value: unknown,
  _name: string,
  all: Parameters<Option>[2],
): CheckedDpopOptions | undefined {
  if (value === undefined || value === false) return undefined
  const options = checkOptions((value === true ? {} : value) as DpopOptions, OPTIONS, {
    of: '`dpop`',
    takes: "`dpop` must be true, or an object, e.g. dpop: { alg: 'ES256' }",
  })
  if (!all.encryptionKeys) {
    throw new ConfigurationError(
      '`dpop` needs `encryptionKeys`, since the private key of each grant is stored with its tokens. Make one with ' +
        '`openssl rand -base64 32` and give encryptionKeys: [process.env.SESSION_KEY].',
    )
  }
  if (all.authorizationScheme !== undefined) {
    throw new ConfigurationError(
      "`authorizationScheme: 'Bearer'` contradicts `dpop`, which sends tokens with the scheme DPoP. Leave one of them out.",
    )
  }
  if (all.adopt !== undefined) {
    throw new ConfigurationError(
      '`dpop` does not go with `adopt`, whose tokens have no key. Hand the tokens over at the login: set(tokens, { dpopKey }).',
    )
  }
  return options
}

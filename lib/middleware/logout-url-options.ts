import { ConfigurationError } from '../errors/token-error.js'
import { checkedBy, optional } from '../options/option-kinds.js'
import { type Checked, checkOptions, type OptionTable } from '../options/option-table.js'

/** The options of `logoutUrl()`. */
export interface LogoutUrlOptions {
  /**
   * Where the authorization server sends the browser after the logout: an absolute URL that is registered there
   * (`post_logout_redirect_uris`). Default: the browser stays there.
   */
  postLogoutRedirectUri?: string
  /** A text that comes back with the browser, as the parameter `state`. Default: none. */
  state?: string
}

const OPTIONS = {
  postLogoutRedirectUri: optional(checkedBy(checkUri)),
  state: optional(checkedBy(checkState)),
} satisfies OptionTable<LogoutUrlOptions>

const USAGE = {
  of: 'logoutUrl()',
  takes:
    "The options of logoutUrl() must be an object: logoutUrl({ postLogoutRedirectUri: 'https://app.example.com/' })",
  cures: {
    post_logout_redirect_uri: 'Did you mean `postLogoutRedirectUri`?',
    redirectUri: 'Did you mean `postLogoutRedirectUri`?',
    returnTo: 'Did you mean `postLogoutRedirectUri`?',
    id_token_hint: 'The ID token of the session is sent; leave it out.',
  },
}

/** @throws `ConfigurationError` that says what to change */
export function checkLogoutUrlOptions(options: LogoutUrlOptions): Checked<LogoutUrlOptions, typeof OPTIONS> {
  return checkOptions(options, OPTIONS, USAGE)
}

function checkUri(uri: unknown): void {
  if (typeof uri === 'string' && URL.canParse(uri)) return
  throw new ConfigurationError(
    "`postLogoutRedirectUri` must be an absolute URL, e.g. postLogoutRedirectUri: 'https://app.example.com/'.",
  )
}

function checkState(state: unknown): void {
  if (typeof state === 'string' && state !== '') return
  throw new ConfigurationError('`state` must be a string that is not empty, or left out.')
}

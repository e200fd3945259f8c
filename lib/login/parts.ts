import { LRUCache } from 'lru-cache'
import { systemClock } from '../concurrency/clock.js'
import { type RotatingKeys, rotatingKeys } from '../middleware/rotating-keys.js'
import { ownProperties } from '../options/own-properties.js'
import { type AppSession, appSessionOf } from './app-session.js'
import { type BrowserNotes, notesInCookies, notesInSession } from './browser-notes.js'
import { type CheckedLoginOptions, checkLoginOptions } from './check-options.js'
import type { LoginRequest } from './login-request.js'
import type { LoginOptions, LoginRoutes } from './options.js'
import { Provider } from './provider.js'
import { REMEMBERED_MS } from './transaction.js'

/** The parts that all requests of one `login()` share. */
export interface LoginParts {
  readonly options: CheckedLoginOptions
  /** The paths of the routes, as browsers know them. */
  readonly paths: Readonly<Record<keyof LoginRoutes, string | false>>
  readonly provider: Provider
  readonly notes: BrowserNotes
  /** The `encryptionKeys`, if the option is a function. */
  readonly keys?: RotatingKeys
  /** The states of the transactions whose callback has come to this process. */
  readonly used: LRUCache<string, true>
  sessionOf(request: LoginRequest): AppSession
}

/** How many used states a process remembers. Their codes are of no further use anyway. */
const MAX_USED = 10_000

/** Checks the options and puts the parts together. */
export function loginParts(given: LoginOptions<never>): LoginParts {
  const options = checkLoginOptions(given)
  const { baseUrl, clientId, encryptionKeys, issuer, regenerate, responseMode, routes, sessionKey } = options
  const base = new URL(baseUrl).pathname.replace(/\/$/, '')
  const pathOf = (route: string | false) => route !== false && base + route
  const audience = `login ${clientId} ${issuer} ${baseUrl}`
  const sealed = encryptionKeys?.sealFor(audience)
  // An event of sessionTokens() tells of a failure.
  const keys = rotatingKeys(encryptionKeys, systemClock, () => {})
  const sessionOf = ({ carrier }: LoginRequest) => appSessionOf(carrier, regenerate as never)
  const isSecure = baseUrl.startsWith('https:')
  const isCrossSite = responseMode === 'form_post'
  return ownProperties({
    options,
    paths: {
      login: pathOf(routes.login),
      callback: pathOf(routes.callback),
      logout: pathOf(routes.logout),
      session: pathOf(routes.session),
      backchannelLogout: pathOf(routes.backchannelLogout),
    },
    provider: new Provider(options, baseUrl + routes.callback),
    notes:
      options.transactions === 'cookie'
        ? notesInCookies({ seal: sealed!, audience, isSecure, isCrossSite })
        : notesInSession(sessionOf, sessionKey, sealed),
    ...(keys && { keys }),
    used: new LRUCache({ max: MAX_USED, ttl: REMEMBERED_MS }),
    sessionOf,
  })
}

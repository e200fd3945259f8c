export type { EndedLogins, LoginEndReason } from './middleware/end-grants.js'
export {
  refuseCrossOrigin,
  requireTokens,
  type SessionTokensMiddleware,
  sessionTokens,
} from './middleware/koa.js'
export type { LogoutUrlOptions } from './middleware/logout-url-options.js'
export type { OfflineReferenceOptions } from './middleware/offline-options.js'
export type { OfflineTokens } from './middleware/offline-tokens.js'
export type { SessionTokensOptions } from './middleware/options.js'
export type { RefuseCrossOriginOptions } from './middleware/refuse-cross-origin.js'
export type { RequireTokensOptions } from './middleware/require-tokens.js'
export type { SessionTokens } from './middleware/session-tokens.js'
export type { TenantOptions } from './middleware/tenants.js'
export { koaTokenErrors as tokenErrors, type TokenErrorsOptions } from './middleware/token-errors.js'

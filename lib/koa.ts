export {
  refuseCrossOrigin,
  requireTokens,
  type SessionTokensMiddleware,
  sessionTokens,
} from './frameworks/koa.js'
export type { RefuseCrossOriginOptions } from './frameworks/refuse-cross-origin.js'
export type { RequireTokensOptions } from './frameworks/require-tokens.js'
export type { SessionTokensOptions } from './options.js'
export type { SessionTokens } from './session-tokens.js'
export type { TenantOptions } from './tenants.js'

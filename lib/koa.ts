export { requireTokens, type SessionTokensMiddleware, sessionTokens } from './frameworks/koa.js'
export type { RequireTokensOptions } from './frameworks/require-tokens.js'
export type { SessionTokensOptions } from './options.js'
export type { SessionTokens } from './session-tokens.js'

export {
  ConfigurationError,
  type StepUp,
  StepUpError,
  TokenError,
  type TokenErrorCode,
  type TokenErrorDetails,
} from './errors.js'
export type { TokenEvent, TokenEventListener } from './events.js'
export {
  refuseCrossOrigin,
  requireTokens,
  type SessionTokensMiddleware,
  sessionTokens,
} from './frameworks/express.js'
export type { RefuseCrossOriginOptions } from './frameworks/refuse-cross-origin.js'
export type { RequireTokensOptions } from './frameworks/require-tokens.js'
export { returnPath } from './frameworks/return-path.js'
export type {
  GrantEnd,
  GrantRecord,
  GrantState,
  GrantStore,
  LeaseRequest,
  Retention,
} from './grants/grant-store.js'
export { type MemoryGrantStoreOptions, memoryGrantStore } from './grants/memory.js'
export {
  type ClientAuthentication,
  type ClientAuthenticationRequest,
  type ClientCredentials,
  clientAssertion,
  clientSecretBasic,
  clientSecretJwt,
  clientSecretPost,
  type FormClientIdOption,
  privateKeyJwt,
  publicClient,
  type SignedAssertionOptions,
} from './oauth/client-authentication.js'
export type { IsGrantEnded, RefusedRefresh } from './oauth/grant-ended-option.js'
export type { AcquireParameters } from './oauth/grant-request.js'
export type { HttpOptions } from './oauth/http.js'
export type { IdTokenClaims } from './oauth/id-token.js'
export type { RefreshedNeed, RefreshParameters, RefreshParametersOption } from './oauth/refresh-parameters.js'
export type { SessionTokensOptions } from './options.js'
export {
  type AmbientAxiosConfig,
  type AmbientFetchConfig,
  sessionAxios,
  sessionFetch,
} from './outbound/ambient.js'
export type { SessionAxiosConfig } from './outbound/axios/axios.js'
export type { OutboundOptions, Replay } from './outbound/outbound-options.js'
export type { SessionTokens } from './session-tokens.js'
export type { OwnSession } from './sessions/own-session.js'
export type { EncryptionKey } from './sessions/sealing.js'
export type { SessionCopy } from './sessions/session-copy.js'
export type { TenantOptions } from './tenants.js'
export type { TokenNeed } from './token-set.js'
export type { TokenSource, UserPolicy, ValidAccessToken } from './token-source.js'

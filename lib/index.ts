export {
  ConfigurationError,
  type StepUp,
  StepUpError,
  TokenError,
  type TokenErrorCode,
  type TokenErrorDetails,
} from './errors/token-error.js'
export type {
  GrantEnd,
  GrantRecord,
  GrantState,
  GrantStore,
  LeaseRequest,
  RecentEnd,
  Retention,
} from './grants/grant-store.js'
export { type MemoryGrantStoreOptions, memoryGrantStore } from './grants/memory-grant-store.js'
export type { ClientTokenSource } from './middleware/client-token-source.js'
export type { EndedLogins, LoginEndReason } from './middleware/end-grants.js'
export {
  refuseCrossOrigin,
  requireTokens,
  type SessionTokensMiddleware,
  sessionTokens,
} from './middleware/express.js'
export type { LoginOptions } from './middleware/login-options.js'
export type { LogoutUrlOptions } from './middleware/logout-url-options.js'
export type { OfflineReferenceOptions } from './middleware/offline-options.js'
export { type OfflineTokens, type OfflineTokensFactory, offlineTokens } from './middleware/offline-tokens.js'
export type { SessionTokensOptions } from './middleware/options.js'
export type { RefuseCrossOriginOptions } from './middleware/refuse-cross-origin.js'
export type { DpopProofRequest, SetOptions } from './middleware/request-dpop.js'
export type { RequireTokensOptions } from './middleware/require-tokens.js'
export { returnPath } from './middleware/return-path.js'
export type { SessionTokens } from './middleware/session-tokens.js'
export type { TenantOptions } from './middleware/tenants.js'
export { type TokenErrorsOptions, tokenErrors } from './middleware/token-errors.js'
export type { AcquireParameters, ExtensionGrantRequest } from './oauth/authorization-server.js'
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
} from './oauth/client-authentication/client-authentication.js'
export type { RotatedSecret } from './oauth/client-authentication/rotated-secret.js'
export {
  type ClientCertificateSource,
  selfSignedTlsClientAuth,
  tlsClientAuth,
} from './oauth/client-authentication/tls-client.js'
export type { DpopOptions } from './oauth/dpop/dpop-options.js'
export type { GivenDpopKey } from './oauth/dpop/keys.js'
export type { HttpOptions } from './oauth/http.js'
export type { IdTokenClaims } from './oauth/id-token/id-token.js'
export type { IsGrantEnded, RefusedRefresh } from './oauth/token-endpoint/is-grant-ended.js'
export type {
  RefreshedNeed,
  RefreshParameters,
  RefreshParametersOption,
} from './oauth/token-endpoint/refresh-parameters.js'
export type { ActorToken, ExchangeOptions } from './oauth/token-endpoint/token-exchange.js'
export {
  type AmbientAxiosConfig,
  type AmbientFetchConfig,
  sessionAxios,
  sessionFetch,
} from './outbound/ambient.js'
export type { SessionAxiosConfig } from './outbound/axios/axios.js'
export type { SessionFetchConfig } from './outbound/fetch/fetch.js'
export type { OutboundOptions, Replay } from './outbound/outbound-options.js'
export type { EncryptionKeysOption } from './sessions/codec/key-ring.js'
export type { EncryptionKey } from './sessions/codec/sealing.js'
export type { SessionCopy } from './sessions/codec/token-set-codec.js'
export type { OwnSession } from './sessions/custom-session.js'
export type { ClientCertificate } from './tokens/client-certificate.js'
export type { OutboundCallMessage, RefreshTrace, TracedResult } from './tokens/diagnostics.js'
export type {
  BreakerOf,
  EndReason,
  IgnoredReason,
  RefreshReason,
  SecretOf,
  TokenEvent,
  TokenEventListener,
} from './tokens/events.js'
export type { TokenNeed } from './tokens/token-need.js'
export type { TokenSource, UserPolicy, ValidAccessToken } from './tokens/token-source.js'

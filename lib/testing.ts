export type {
  GrantEnd,
  GrantRecord,
  GrantState,
  GrantStore,
  LeaseRequest,
  RecentEnd,
  Retention,
} from './grants/grant-store.js'
export { type FakeTokensOptions, fakeTokens } from './testing/fake-tokens.js'
export {
  type GrantStoreCase,
  type GrantStoreContractOptions,
  grantStoreContract,
  type OpenGrantStore,
} from './testing/grant-store-contract.js'
export type { IssuedTokens } from './testing/issued-tokens.js'
export { type LoggedInOptions, loggedIn } from './testing/logged-in.js'
export {
  type TestTokenEndpoint,
  type TokenEndpointOptions,
  tokenEndpoint,
} from './testing/token-endpoint.js'

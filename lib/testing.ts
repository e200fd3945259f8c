export type {
  GrantEnd,
  GrantRecord,
  GrantState,
  GrantStore,
  LeaseRequest,
  Retention,
} from './grants/grant-store.js'
export {
  type GrantStoreCase,
  type GrantStoreContractOptions,
  grantStoreContract,
  type OpenGrantStore,
} from './testing/grant-store-contract.js'

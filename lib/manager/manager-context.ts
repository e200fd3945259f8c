import type { Clock } from '../concurrency/clock.js'
import type { GrantRegistry } from '../grants/grant-registry.js'
import type { SharedGrants } from '../grants/shared-grants.js'
import type { AuthorizationServer } from '../oauth/authorization-server.js'
import type { Dpop } from '../oauth/dpop/dpop.js'
import type { OfflineReferenceCodec } from '../sessions/codec/offline-reference.js'
import type { TokenSetCodec } from '../sessions/codec/token-set-codec.js'
import type { Margin } from '../tokens/access-token.js'
import type { EmitEvent } from '../tokens/event-emitter.js'
import type { GrantLabels } from './grant-labels.js'
import type { Retentions } from './grant-retention.js'
import type { ServerHealth } from './server-health.js'

/** The parts and the options that the manager of one middleware works with. */
export interface ManagerContext {
  /** The grants that this process knows. */
  readonly registry: GrantRegistry
  /** The grants in the grant store, which all processes share. */
  readonly shared: SharedGrants
  readonly codec: TokenSetCodec
  readonly references: OfflineReferenceCodec
  readonly retentions: Retentions
  readonly labels: GrantLabels
  readonly server: AuthorizationServer
  /** Binds the tokens of each grant to a key, with the option `dpop`. */
  readonly dpop: Dpop | undefined
  readonly health: ServerHealth
  /** The issuer, or the token endpoint. */
  readonly serverName: string
  readonly clock: Clock
  readonly emit: EmitEvent
  /** Names the client and its authorization server. */
  readonly audience: string
  readonly clientId: string
  readonly issuer?: string
  /** Names the tenant in messages of diagnostics channels. */
  readonly tenant: string | undefined
  /** Whether a refresh goes on without the grant store when the store fails. */
  readonly onGrantStoreError?: 'fail' | 'local'
  /** For how long a token must still be valid when a caller gets it. */
  readonly leeway: Margin
  /** For how long a token must still be valid so that it is not refreshed ahead of its expiry. */
  readonly ahead: Margin
  /** How long a caller waits for a refresh while its token is still valid, in milliseconds. */
  readonly patienceMs: number
  readonly defaultLifetimeMs: number
  readonly refreshTimeoutMs: number
  /** How long a login may last, in milliseconds; `undefined` without a limit of the app. */
  readonly maxLoginAgeMs: number | undefined
  /** Keeps the process awake for work that goes on after its request. */
  readonly waitUntil: ((work: Promise<unknown>) => void) | undefined
  /** How long a caller waits for a token, in milliseconds. The refresh itself goes on. */
  readonly timeoutMs: number
  /** The names of the token exchanges. */
  readonly exchanges: readonly string[]
}

import { type Clock, systemClock } from '../concurrency/clock.js'
import type { TokenError } from '../errors/token-error.js'
import { warnOnce } from '../errors/warn-once.js'
import { type GrantRegistry, processGrants } from '../grants/grant-registry.js'
import type { GrantStore } from '../grants/grant-store.js'
import { isMemoryGrantStore, memoryGrantStore } from '../grants/memory-grant-store.js'
import { SharedGrants } from '../grants/shared-grants.js'
import { Adoption } from '../manager/adoption.js'
import { GrantLabels } from '../manager/grant-labels.js'
import { Retentions } from '../manager/grant-retention.js'
import type { ManagerContext } from '../manager/manager-context.js'
import { serverHealth } from '../manager/server-health.js'
import { TokenManager } from '../manager/token-manager.js'
import type { AuthorizationServer } from '../oauth/authorization-server.js'
import { Dpop, type DpopContext } from '../oauth/dpop/dpop.js'
import { httpAuthorizationServer } from '../oauth/http-authorization-server.js'
import { ownProperties, ownValue } from '../options/own-properties.js'
import { GrantReferenceCodec } from '../sessions/codec/grant-reference-codec.js'
import { OfflineReferenceCodec } from '../sessions/codec/offline-reference.js'
import { TokenSetCodec } from '../sessions/codec/token-set-codec.js'
import { customSessions } from '../sessions/custom-session.js'
import { expressSessions } from '../sessions/express/express-sessions.js'
import type { SessionLayer, SessionLayerContext } from '../sessions/session-layer.js'
import { type EmitEvent, emitterOf } from '../tokens/event-emitter.js'
import type { TokenSet } from '../tokens/token-set.js'
import { type CheckedOptions, checkSessionTokensOptions } from './check-options.js'
import type { AnySessionTokensOptions } from './options.js'
import { type RotatingKeys, rotatingKeys } from './rotating-keys.js'

/** The parts that all requests of one middleware share. */
export interface MiddlewareContext {
  readonly property: string
  /** Whether `sessionAxios()` and `sessionFetch()` find its tokens. */
  readonly isAmbient: boolean
  /** The scheme of all access tokens, in place of their own types. */
  readonly authorizationScheme?: 'Bearer'
  readonly clock: Clock
  readonly server: AuthorizationServer
  /** Binds the tokens of each grant to a key, with the option `dpop`. */
  readonly dpop?: Dpop
  /** The `encryptionKeys`, if the option is a function. */
  readonly keys?: RotatingKeys
  readonly sessions: SessionLayer<object>
  readonly manager: TokenManager
  readonly adoption?: Adoption
  /** Resolves when every refresh under way has ended and its result is stored, or no store has taken it for 5 seconds. */
  close(): Promise<void>
}

/** Makes the session layer of a framework. */
export type SessionLayerFactory = (context: SessionLayerContext) => SessionLayer<object>

/** The largest parts of a token's lifetime that `leewayMs` and `refreshAheadMs` may be. */
const LEEWAY_PART = 1 / 8
const AHEAD_PART = 1 / 4

/** The services of which a process has one. Tests replace them to simulate several processes, and other times. */
export interface ProcessServices {
  readonly clock: Clock
  readonly registry: GrantRegistry
  readonly grants: GrantStore
}

const thisProcess: ProcessServices = {
  clock: systemClock,
  registry: processGrants,
  grants: memoryGrantStore(),
}

/**
 * Checks the options and puts the parts together.
 *
 * @param tenant names the tenant of these options in events
 */
export function composeMiddleware(
  options: AnySessionTokensOptions,
  services: ProcessServices = thisProcess,
  sessionLayer: SessionLayerFactory = expressSessions,
  tenant?: string,
): MiddlewareContext {
  const checked = checkSessionTokensOptions(options)
  if (ownValue(options, 'encryptionKeys') === undefined) warnOfNoKeys()
  const context = managerContextOf(checked, services, tenant)
  const manager = new TokenManager(context)
  const sessions = sessionsOf(checked, context, manager, sessionLayer)
  if (sessions.homeOf) manager.offline.homeOf = (...of) => sessions.homeOf!(...of)
  const { adopt, ambient: isAmbient, authorizationScheme, property } = checked
  const { ends, ignoredCopies, sessionWriter } = manager
  const adoption = adopt && new Adoption({ ...context, ends, ignoredCopies, sessionWriter, adopt })
  const { clock, dpop, emit, server } = context
  const keys = rotatingKeys(checked.encryptionKeys, clock, emit)
  return ownProperties({
    property,
    isAmbient,
    ...(authorizationScheme && { authorizationScheme }),
    clock,
    server,
    ...(dpop && { dpop }),
    ...(keys && { keys }),
    sessions,
    manager,
    ...(adoption && { adoption }),
    async close() {
      await adoption?.close()
      await manager.close()
      sessions.close()
    },
  })
}

function managerContextOf(
  checked: CheckedOptions,
  services: ProcessServices,
  tenant: string | undefined,
): ManagerContext {
  const { clientId, issuer, sessionMaxAgeMs } = checked
  const serverName = String(issuer ?? checked.tokenEndpoint)
  const { clock, registry } = services
  const codec = codecOf(checked, registry)
  const audience = audienceOf(checked)
  const labels = new GrantLabels(audience, issuer, codec.writesReferences)
  const emit = emitterOf({ onEvent: checked.onEvent, now: () => clock.now(), tenant })
  const shared = new SharedGrants({
    store: checked.grants ?? services.grants,
    isShared: checked.grants !== undefined && !isMemoryGrantStore(checked.grants),
    registry,
    codec,
    clock,
    emit,
    audience,
    labels,
  })
  const onSecretFailed = (error: TokenError, hasLast: boolean) =>
    emit({ type: 'secret_failed', of: 'client_authentication', hasLast, error })
  const dpop = checked.dpop && new Dpop(checked.dpop, dpopContextOf(clock, emit))
  return {
    registry,
    shared,
    codec,
    references: referencesOf(checked),
    retentions: new Retentions({ sessionMaxAgeMs, isReference: codec.writesReferences, emit }),
    server: httpAuthorizationServer({ ...checked, clock, dpop, onSecretFailed }),
    dpop,
    serverName,
    health: serverHealth(registry, serverName, clock, checked.maxConcurrentRefreshes),
    clock,
    emit,
    audience,
    labels,
    clientId,
    ...(issuer !== undefined && { issuer }),
    tenant,
    onGrantStoreError: checked.onGrantStoreError,
    leeway: { ms: checked.leewayMs, part: LEEWAY_PART },
    ahead: { ms: checked.refreshAheadMs, part: AHEAD_PART },
    patienceMs: checked.patienceMs,
    defaultLifetimeMs: checked.defaultLifetimeMs,
    refreshTimeoutMs: checked.refreshTimeoutMs,
    maxLoginAgeMs: checked.maxLoginAgeMs,
    timeoutMs: checked.timeoutMs,
    exchanges: Object.keys(checked.exchanges ?? {}),
    waitUntil: checked.waitUntil,
  }
}

function dpopContextOf(clock: Clock, emit: EmitEvent): DpopContext {
  return {
    now: () => clock.now(),
    onClockOff: (origin, offMs) => emit({ type: 'clock_off', origin, offMs: Math.round(offMs) }),
  }
}

function sessionsOf(
  checked: CheckedOptions,
  { codec }: ManagerContext,
  manager: TokenManager,
  sessionLayer: SessionLayerFactory,
): SessionLayer<object> {
  if (checked.session) return customSessions(checked.session, codec)
  return sessionLayer({
    key: checked.sessionKey,
    audience: formatOf(checked),
    codec,
    grants: manager.sessionGrants,
    isSealed: checked.encryptionKeys !== undefined || checked.keep === 'store',
    acceptsUnsealed: checked.acceptUnsealed,
  })
}

/** Names the client and its authorization server. A copy of the tokens belongs to one of them. */
function audienceOf({ clientId, issuer, tokenEndpoint }: CheckedOptions): string {
  return `${clientId} ${issuer ?? tokenEndpoint}`
}

/** Names the client and the format of its copies. */
function formatOf(options: CheckedOptions): string {
  const isSealed = options.encryptionKeys !== undefined
  return `${audienceOf(options)} ${options.keep}${isSealed ? ', sealed' : ''}`
}

/** Makes the codec of the references. A reference belongs to one session key as well, and is no session copy. */
function referencesOf(options: CheckedOptions): OfflineReferenceCodec {
  const audience = JSON.stringify(['offline', audienceOf(options), options.sessionKey])
  return new OfflineReferenceCodec(audience, options.encryptionKeys?.sealFor(audience))
}

/** Makes the codec of the session copies. A sealed copy belongs to one session key as well. */
function codecOf(options: CheckedOptions, registry: GrantRegistry): TokenSetCodec {
  const { acceptUnsealed: acceptsUnsealed, encryptionKeys, keep, sessionKey } = options
  const audience = audienceOf(options)
  const sealed = encryptionKeys?.sealFor(`${audience} ${sessionKey}`)
  if (acceptsUnsealed) warnOfUnsealed()
  const provesByTokens = (tokens: TokenSet) => registry.proves(tokens)
  const holdsEndedTokens = registry.holdsEndedTokens.bind(registry)
  const readsReferences = options.grants !== undefined
  const reading = { acceptsUnsealed, holdsEndedTokens, readsReferences }
  return keep === 'store'
    ? new GrantReferenceCodec(audience, sealed, provesByTokens, reading)
    : new TokenSetCodec(audience, sealed, provesByTokens, reading)
}

function warnOfUnsealed(): void {
  warnOnce(
    'SESSION_TOKENS_ACCEPT_UNSEALED',
    'sessionTokens() accepts sessions whose tokens are not sealed (acceptUnsealed). Remove the option when the sessions from ' +
      'before the change have been refreshed, or have expired.',
  )
}

function warnOfNoKeys(): void {
  warnOnce(
    'SESSION_TOKENS_UNSEALED',
    'sessionTokens() has no encryptionKeys, so the tokens are readable in the session store and in the grant store. ' +
      'Make a key with `openssl rand -base64 32` and give encryptionKeys: [process.env.SESSION_KEY], or encryptionKeys: false ' +
      'if this is intended.',
  )
}

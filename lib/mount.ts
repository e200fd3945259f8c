import { Adoption } from './adoption.js'
import { type Clock, systemClock } from './clock.js'
import { emitterOf } from './events.js'
import { type Flights, flightsInThisProcess } from './flights.js'
import type { GrantStore } from './grants/grant-store.js'
import { type KnownGrants, knownInThisProcess } from './grants/known-grants.js'
import { isMemoryGrantStore, memoryGrantStore } from './grants/memory.js'
import { type AuthorizationServer, authorizationServer } from './oauth/authorization-server.js'
import { checkedOptions } from './option-checks.js'
import type { SessionTokensOptions } from './options.js'
import { ownProperties, ownValue } from './own-properties.js'
import { Retentions } from './retention.js'
import { expressSessions } from './sessions/express-layers.js'
import { ownSessions } from './sessions/own-session.js'
import { References } from './sessions/references.js'
import { seal } from './sessions/sealing.js'
import { SessionCopies } from './sessions/session-copy.js'
import type { SessionLayer, SessionLayerContext } from './sessions/session-layer.js'
import { TokenManager } from './token-manager.js'
import type { TokenSet } from './token-set.js'
import { warnOnce } from './warn-once.js'

/** One mounted middleware: the parts that all its requests share. */
export interface Mount {
  readonly property: string
  /** Whether `sessionAxios()` and `sessionFetch()` find its tokens. */
  readonly isAmbient: boolean
  /** What access tokens are sent as, whatever their type. */
  readonly authorizationScheme?: 'Bearer'
  readonly clock: Clock
  readonly server: AuthorizationServer
  readonly sessions: SessionLayer<object>
  readonly manager: TokenManager
  readonly adoption?: Adoption
}

/** Makes the session layer of a framework. */
export type SessionLayerFactory = (context: SessionLayerContext) => SessionLayer<object>

/** What a process has one of. Tests replace it to play several processes, and other times. */
export interface Surroundings {
  readonly clock: Clock
  readonly known: KnownGrants
  readonly flights: Flights
  readonly grants: GrantStore
}

const thisProcess: Surroundings = {
  clock: systemClock,
  known: knownInThisProcess,
  flights: flightsInThisProcess,
  grants: memoryGrantStore(),
}

/** Checks the options and puts the parts together. */
export function mount(
  options: SessionTokensOptions,
  surroundings: Surroundings = thisProcess,
  sessionLayer: SessionLayerFactory = expressSessions,
): Mount {
  const checked = checkedOptions(options)
  if (ownValue(options, 'encryptionKeys') === undefined) warnOfNoKeys()
  const { authorizationScheme, clientId, issuer, onEvent, property, sessionKey } = checked
  const { clock, flights, known } = surroundings
  const server = authorizationServer({ ...checked, clock })
  const audience = audienceOf(checked)
  const copies = sessionCopies(checked, known)
  const emit = emitterOf(onEvent)
  const { sessionMaxAgeMs } = checked
  const shared = {
    grants: checked.grants ?? surroundings.grants,
    keepsForOthers: checked.grants !== undefined && !isMemoryGrantStore(checked.grants),
    onGrantStoreError: checked.onGrantStoreError,
    known,
    copies,
    retentions: new Retentions({ sessionMaxAgeMs, isReference: copies.isReference, emit }),
    clock,
    emit,
    defaultLifetimeMs: checked.defaultLifetimeMs,
  }
  const manager = new TokenManager({
    ...shared,
    flights,
    server,
    audience,
    clientId,
    ...(issuer !== undefined && { issuer }),
    leewayMs: checked.leewayMs,
    timeoutMs: checked.timeoutMs,
    refreshTimeoutMs: checked.refreshTimeoutMs,
  })
  const isSealed = checked.encryptionKeys !== undefined || checked.keep === 'store'
  const sessions = checked.session
    ? ownSessions(checked.session, manager)
    : sessionLayer({
        key: sessionKey,
        audience: formatOf(checked),
        keeper: manager,
        isSealed,
        acceptsUnsealed: checked.acceptUnsealed ?? false,
      })
  const { adopt } = checked
  const adoption = adopt && new Adoption({ ...shared, restoration: manager.restoration, audience, adopt })
  const isAmbient = checked.ambient ?? false
  return ownProperties({
    property,
    isAmbient,
    ...(authorizationScheme && { authorizationScheme }),
    clock,
    server,
    sessions,
    manager,
    ...(adoption && { adoption }),
  })
}

/** Resolves when every refresh under way has ended and its result is stored, or no store has taken it for 5 seconds. */
export async function closeMount({ adoption, manager, sessions }: Mount): Promise<void> {
  await adoption?.close()
  await manager.close()
  sessions.close()
}

/** Copies are of one client at one authorization server. */
function audienceOf({ clientId, issuer, tokenEndpoint }: ReturnType<typeof checkedOptions>): string {
  return `${clientId} ${issuer ?? tokenEndpoint}`
}

/** Who can read what is in a session: the copies of one client in one format. */
function formatOf(options: ReturnType<typeof checkedOptions>): string {
  const isSealed = options.encryptionKeys !== undefined
  return `${audienceOf(options)} ${options.keep}${isSealed ? ', sealed' : ''}`
}

/** Sealed copies are of one session key as well. */
function sessionCopies(options: ReturnType<typeof checkedOptions>, known: KnownGrants): SessionCopies {
  const { acceptUnsealed, encryptionKeys, keep, sessionKey } = options
  const audience = audienceOf(options)
  const keys = encryptionKeys?.filter((key) => key !== undefined)
  const sealed = keys && seal(keys, `${audience} ${sessionKey}`)
  const acceptsUnsealed = acceptUnsealed ?? false
  if (acceptsUnsealed) warnOfUnsealed()
  const provesByTokens = (tokens: TokenSet) => known.proves(tokens)
  const holdsEndedTokens = (tokens: TokenSet) => known.holdsEndedTokens(tokens)
  const reading = { acceptsUnsealed, holdsEndedTokens }
  return keep === 'store'
    ? new References(audience, sealed, provesByTokens, reading)
    : new SessionCopies(audience, sealed, provesByTokens, reading)
}

function warnOfUnsealed(): void {
  warnOnce(
    'SESSION_TOKENS_ACCEPT_UNSEALED',
    'sessionTokens() accepts sessions whose tokens are not sealed (acceptUnsealed). Take the option out when those from before ' +
      'the change have been refreshed, or have expired.',
  )
}

function warnOfNoKeys(): void {
  warnOnce(
    'SESSION_TOKENS_UNSEALED',
    'sessionTokens() has no encryptionKeys, so everybody who can read the session store or the grant store can read the tokens. ' +
      'Make a key with `openssl rand -base64 32` and give encryptionKeys: [process.env.SESSION_KEY], or encryptionKeys: false ' +
      'if this is meant.',
  )
}

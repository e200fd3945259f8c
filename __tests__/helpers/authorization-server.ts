import { createHash, generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto'
import { IncomingMessage, type RequestListener, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { decodeJwt, SignJWT } from 'jose'
import type { ClientMetadata, Configuration, Provider } from 'oidc-provider'
import { dpopProof } from './dpop-proof.js'
import { type Fault, fail, losesAnswer } from './faults.js'
import { createGate, type Gate } from './gate.js'
import { type Answer, readBody, send, serve } from './http-server.js'
import { oidcStorage } from './oidc-storage.js'

/** Imported without its warning that it would rather run on a newer Node.js. */
const oidc = await quietly(() => import('oidc-provider'))

/** The scopes that every client may ask for. */
const SCOPE = 'openid offline_access orders.read orders.write'
const RESOURCE_SCOPE = 'orders.read orders.write'
/** What tokens are for that were asked for without a resource, when they are to be JWTs. */
const DEFAULT_RESOURCE = 'https://api.example'
const REDIRECT_URI = 'http://127.0.0.1/callback'
const DAY_SECONDS = 86_400

// Made once for a process. The secrets hold what a form must encode (RFC 6749 §2.3.1).
const SECRET = 'secret of + the % client / & = ? : web'
const signingKey = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const clientKey = generateKeyPairSync('ec', { namedCurve: 'P-256' })

/** The registered clients, by their authentication method (RFC 8414 §2, `token_endpoint_auth_methods_supported`). */
export const clients = {
  client_secret_basic: { clientId: 'web-basic', clientSecret: SECRET },
  client_secret_post: { clientId: 'web-post', clientSecret: SECRET },
  client_secret_jwt: { clientId: 'web-secret-jwt', clientSecret: SECRET },
  private_key_jwt: {
    clientId: 'web-private-key-jwt',
    alg: 'ES256',
    privateKey: clientKey.privateKey,
    privateJwk: clientKey.privateKey.export({ format: 'jwk' }),
  },
  none: { clientId: 'web-public' },
} as const

/** How a client authenticates. */
export type ClientAuthenticationMethod = keyof typeof clients

/** How an authorization server differs from the usual one. */
export interface AuthorizationServerOptions {
  /** How long access tokens live, in seconds. Default: 3600. */
  accessTokenTtl?: number
  /**
   * What access tokens look like that are asked for without a `resource`. Default: `opaque`.
   * With a `resource` they are always JWTs (RFC 9068).
   */
  accessTokenFormat?: 'opaque' | 'jwt'
  /** Further clients, as oidc-provider knows them. */
  clients?: ClientMetadata[]
  /** Further grant types of the usual clients. */
  grantTypes?: string[]
  /** Whether browsers see a page with a button before they are logged in. Default: `false`. */
  pages?: boolean
  /** Changes the configuration of oidc-provider. */
  configure?: (configuration: Configuration) => Configuration
  /** Whether proofs of possession must have a nonce (RFC 9449 §8), or may have one. Default: no nonces. */
  dpopNonces?: 'required' | 'offered'
}

/** What a login asks for. */
export interface LoginRequest {
  /** Default: everything, `openid offline_access orders.read orders.write`. */
  scope?: string
  /** The resources that the user grants; refreshes may then ask for one of them (RFC 8707). The login's own token is for none. */
  resource?: string | string[]
  /** The client that the user logs in to. Default: `client_secret_basic`. */
  client?: ClientAuthenticationMethod
  /** The thumbprint of the key that the code is bound to (RFC 9449 §10). */
  dpopJkt?: string
  /** The private key, of the curve P-256, that the tokens of the login are bound to (RFC 9449 §5). Default: bearer tokens. */
  dpopKey?: KeyObject
}

/** A token endpoint's answer, on the wire (RFC 6749 §5.1). */
export interface TokenResponse {
  access_token: string
  token_type: string
  expires_in: number
  refresh_token: string
  id_token: string
  scope: string
  [parameter: string]: unknown
}

/** A token request with a fresh authorization code, for the client to authenticate and send (RFC 6749 §4.1.3). */
export interface AuthorizationCodeGrant {
  grant_type: 'authorization_code'
  code: string
  redirect_uri: string
  code_verifier: string
}

/** What the token endpoint saw of one request, and what came of it. */
export interface TokenRequest {
  /** Milliseconds since the epoch. */
  readonly at: number
  readonly parameters: URLSearchParams
  readonly authorization: string | undefined
  readonly grantType: string | undefined
  readonly refreshToken: string | undefined
  readonly scope: string | undefined
  readonly resource: string | undefined
  /** The proof of possession (RFC 9449). */
  readonly dpop: string | undefined
  /** What went wrong by a test's wish. */
  fault?: Fault
  /** The status answered, whether or not the answer arrived; absent while the request is under way, or when it broke. */
  status?: number
  /** The OAuth error answered by the authorization server. */
  error?: string
}

/** What the revocation endpoint saw of one request (RFC 7009). */
export interface RevocationRequest {
  readonly at: number
  readonly token: string | undefined
  readonly hint: string | undefined
  readonly dpop: string | undefined
  status?: number
}

/** A running authorization server (oidc-provider): refresh tokens rotate, and a reused one ends its grant. */
export interface AuthorizationServer {
  readonly issuer: string
  readonly tokenEndpoint: string
  readonly revocationEndpoint: string
  readonly introspectionEndpoint: string
  readonly authorizationEndpoint: string
  readonly clients: typeof clients
  /** oidc-provider itself, for what is not foreseen here. */
  readonly provider: Provider
  /** A fresh token response, obtained past all holds, faults and logs. Each login is a grant of its own. */
  login(accountId: string, request?: LoginRequest): Promise<TokenResponse>
  /** A fresh authorization code, for a test that sends the token request itself. */
  authorize(accountId: string, request?: LoginRequest): Promise<AuthorizationCodeGrant>
  /** Changes how long access tokens issued from now on live, in seconds. */
  setAccessTokenTtl(seconds: number): void
  /** Every token request so far, in the order of arrival, those that failed by a test's wish among them. */
  readonly tokenRequests: readonly TokenRequest[]
  /** Every request to the revocation endpoint so far. */
  readonly revocations: readonly RevocationRequest[]
  /** Requests to where the `redirect` fault leads; a client that follows no redirects makes none. */
  readonly elsewhere: readonly string[]
  /** How many refreshes succeeded at the server, those whose answer was lost included. */
  refreshes(): number
  /** How many refreshes were refused although their refresh token had worked before. Each one ended a grant. */
  reuses(): number
  /** Refresh tokens that were presented more than once, whatever came of it. */
  presentedAgain(): string[]
  /** The ids (oidc-provider's own) of the grants that reuse or a revocation ended. */
  readonly endedGrants: readonly string[]
  /** Whether a refresh token would be accepted, or an access token is one that an API should accept. */
  isActive(token: string): Promise<boolean>
  /** From now on token requests (those that match) wait before they reach the server. */
  hold(matches?: (request: TokenRequest) => boolean): Gate
  /** From now on token requests (those that match) are processed, and their answers wait. */
  holdAnswer(matches?: (request: TokenRequest) => boolean): Gate
  /** The next token requests fail in this way. */
  failNext(fault: Fault, times?: number): void
  /** The next revocation requests fail in this way. */
  failNextRevocation(fault: Fault, times?: number): void
  /** Nobody listens any more; every connection is reset. What the server knows is kept. */
  down(): Promise<void>
  /** Listens again, on the same port. */
  up(): Promise<void>
  /** Stops it. Rejects when the server itself had an unexpected error, which would make the test's result worthless. */
  close(): Promise<void>
}

/** Starts an authorization server on 127.0.0.1. Browsers log in at once, as the account named by `login_hint`. */
export async function startAuthorizationServer(
  options: AuthorizationServerOptions = {},
): Promise<AuthorizationServer> {
  const settings = { accessTokenTtl: options.accessTokenTtl ?? 3600 }
  const log = createLog()
  const tokenDesk = createDesk()
  const revocationDesk = createDesk()
  let provider!: Provider

  const server = await serve(async (url) => {
    const standard = configuration(options, settings)
    provider = new oidc.Provider(url, options.configure?.(standard) ?? standard)
    return route({
      '/token': (message, response) => answerTokenRequest(provider, log, tokenDesk, message, response),
      '/token/revocation': (message, response) =>
        answerRevocation(provider, log, revocationDesk, message, response),
      '/interaction/': (message, response) => {
        if (options.pages && message.method === 'GET') send(response, LOGIN_PAGE)
        else void finishInteraction(provider, message, response)
      },
      '/elsewhere': async (message, response) => {
        log.elsewhere.push(await readBody(message))
        send(response, { status: 200, body: { access_token: 'from-elsewhere', token_type: 'Bearer' } })
      },
      '/': provider.callback(),
    })
  })
  const grantOfToken = watch(provider, log)

  return {
    issuer: server.url,
    tokenEndpoint: `${server.url}/token`,
    revocationEndpoint: `${server.url}/token/revocation`,
    introspectionEndpoint: `${server.url}/token/introspection`,
    authorizationEndpoint: `${server.url}/auth`,
    clients,
    provider,
    login: (accountId, request = {}) => login(provider, options, accountId, request),
    authorize: (accountId, request = {}) => authorize(provider, options, accountId, request),
    setAccessTokenTtl(seconds) {
      settings.accessTokenTtl = seconds
    },
    tokenRequests: log.tokenRequests,
    revocations: log.revocations,
    elsewhere: log.elsewhere,
    endedGrants: log.endedGrants,
    refreshes: () => log.tokenRequests.filter(refreshed).length,
    reuses: () => log.tokenRequests.filter((request) => isReuse(request, log.tokenRequests)).length,
    presentedAgain: () => presentedAgain(log.tokenRequests),
    isActive: (token) => isActive(provider, grantOfToken, token),
    hold: (matches) => addGate(tokenDesk.holds, matches),
    holdAnswer: (matches) => addGate(tokenDesk.answerHolds, matches),
    failNext: (fault, times = 1) => void tokenDesk.faults.push(...Array<Fault>(times).fill(fault)),
    failNextRevocation: (fault, times = 1) =>
      void revocationDesk.faults.push(...Array<Fault>(times).fill(fault)),
    down: server.down,
    up: server.up,
    async close() {
      await server.down()
      if (log.serverErrors.length > 0) throw log.serverErrors[0]
    },
  }
}

async function quietly<T>(work: () => Promise<T>): Promise<T> {
  const { warn } = console
  console.warn = () => {}
  try {
    return await work()
  } finally {
    console.warn = warn
  }
}

function configuration(
  options: AuthorizationServerOptions,
  settings: { readonly accessTokenTtl: number },
): Configuration {
  const jwt = options.accessTokenFormat === 'jwt'
  return {
    adapter: oidcStorage([...registrations(options.grantTypes), ...(options.clients ?? [])]),
    jwks: {
      keys: [{ ...signingKey.privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig' } as never],
    },
    cookies: { keys: [randomBytes(16).toString('hex')] },
    clientDefaults: { id_token_signed_response_alg: 'ES256' },
    scopes: SCOPE.split(' '),
    rotateRefreshToken: true,
    ttl: {
      AccessToken: () => settings.accessTokenTtl,
      AuthorizationCode: 60,
      ClientCredentials: () => settings.accessTokenTtl,
      Grant: DAY_SECONDS,
      IdToken: 3600,
      Interaction: 600,
      RefreshToken: DAY_SECONDS,
      Session: DAY_SECONDS,
    },
    enabledJWA: { dPoPSigningAlgValues: ['ES256', 'EdDSA', 'Ed25519', 'PS256'] },
    findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    renderError(ctx, out) {
      ctx.type = 'json'
      ctx.body = out
    },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      backchannelLogout: { enabled: true },
      revocation: { enabled: true, allowedPolicy: (_, client, token) => token.clientId === client.clientId },
      ...(options.dpopNonces && {
        dPoP: {
          enabled: true,
          nonceSecret: randomBytes(32),
          requireNonce: () => options.dpopNonces === 'required',
        },
      }),
      introspection: { enabled: true, allowedPolicy: () => true },
      resourceIndicators: {
        enabled: true,
        defaultResource: (_, __, oneOf) => (jwt ? (oneOf?.[0] ?? DEFAULT_RESOURCE) : (oneOf?.[0] as string)),
        useGrantedResource: () => jwt,
        getResourceServerInfo: (_, resource) => ({
          audience: resource,
          scope: RESOURCE_SCOPE,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  }
}

function registrations(grantTypes: readonly string[] = []): ClientMetadata[] {
  return Object.entries(clients).map(([method, client]) => ({
    client_id: client.clientId,
    ...('clientSecret' in client && { client_secret: client.clientSecret }),
    ...('privateKey' in client && {
      jwks: { keys: [{ ...clientKey.publicKey.export({ format: 'jwk' }), alg: 'ES256' } as never] },
    }),
    token_endpoint_auth_method: method as ClientAuthenticationMethod,
    // A native client's loopback redirect URI fits any port (RFC 8252 §7.3).
    application_type: 'native',
    redirect_uris: [REDIRECT_URI],
    grant_types: ['authorization_code', 'refresh_token', ...grantTypes],
    response_types: ['code'],
    scope: SCOPE,
  }))
}

/** Sends a request to the handler whose path its own starts with; the longest wins. */
function route(handlers: Record<string, RequestListener>): RequestListener {
  const paths = Object.keys(handlers).sort((a, b) => b.length - a.length)
  return (message, response) => {
    const { pathname } = new URL(message.url ?? '/', 'http://127.0.0.1')
    const path = paths.find((prefix) =>
      prefix.endsWith('/') ? pathname.startsWith(prefix) : pathname === prefix,
    )
    handlers[path ?? '/']?.(message, response)
  }
}

interface Log {
  readonly tokenRequests: TokenRequest[]
  readonly revocations: RevocationRequest[]
  readonly elsewhere: string[]
  readonly endedGrants: string[]
  readonly serverErrors: Error[]
}

function createLog(): Log {
  return { tokenRequests: [], revocations: [], elsewhere: [], endedGrants: [], serverErrors: [] }
}

/** Logs what the provider tells of itself. Returns the grants of the access tokens that it keeps no record of. */
function watch(provider: Provider, log: Log): ReadonlyMap<string, string> {
  const grantOfToken = new Map<string, string>()
  provider.on('access_token.issued', (token) => void grantOfToken.set(token.jti, token.grantId))
  provider.on('grant.revoked', (_, grantId) => void log.endedGrants.push(grantId))
  provider.on('server_error', (_, error) => void log.serverErrors.push(error))
  return grantOfToken
}

/** What stands between the clients and an endpoint. */
interface Desk {
  readonly holds: Hold[]
  readonly answerHolds: Hold[]
  readonly faults: Fault[]
}

interface Hold {
  readonly gate: Gate
  readonly matches: (request: TokenRequest) => boolean
}

function createDesk(): Desk {
  return { holds: [], answerHolds: [], faults: [] }
}

function addGate(holds: Hold[], matches: (request: TokenRequest) => boolean = () => true): Gate {
  const gate = createGate()
  holds.push({ gate, matches })
  return gate
}

async function pass(holds: readonly Hold[], request: TokenRequest): Promise<void> {
  await Promise.all(holds.filter(({ matches }) => matches(request)).map(({ gate }) => gate.pass()))
}

async function answerTokenRequest(
  provider: Provider,
  log: Log,
  desk: Desk,
  message: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const body = await readBody(message).catch(() => undefined)
  if (body === undefined) return
  const request = tokenRequest(message, new URLSearchParams(body))
  log.tokenRequests.push(request)
  const fault = desk.faults.shift()
  if (fault !== undefined) request.fault = fault
  await pass(desk.holds, request)
  if (fault !== undefined && !losesAnswer(fault)) {
    const status = fail(response, fault)
    if (status !== undefined) request.status = status
    return
  }
  const answer = await ask(provider, message, body)
  const { error } = fieldsOf(answer)
  request.status = answer.status
  if (typeof error === 'string') request.error = error
  await pass(desk.answerHolds, request)
  if (fault === undefined) send(response, answer)
  else fail(response, fault)
}

async function answerRevocation(
  provider: Provider,
  log: Log,
  desk: Desk,
  message: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const body = await readBody(message).catch(() => undefined)
  if (body === undefined) return
  const parameters = new URLSearchParams(body)
  const request: RevocationRequest = {
    at: Date.now(),
    token: parameters.get('token') ?? undefined,
    hint: parameters.get('token_type_hint') ?? undefined,
    dpop: proofOf(message),
  }
  log.revocations.push(request)
  const fault = desk.faults.shift()
  if (fault !== undefined && !losesAnswer(fault)) {
    const status = fail(response, fault)
    if (status !== undefined) request.status = status
    return
  }
  const answer = await ask(provider, message, body)
  request.status = answer.status
  if (fault === undefined) send(response, answer)
  else fail(response, fault)
}

function tokenRequest(message: IncomingMessage, parameters: URLSearchParams): TokenRequest {
  return {
    at: Date.now(),
    parameters,
    authorization: message.headers.authorization,
    grantType: parameters.get('grant_type') ?? undefined,
    refreshToken: parameters.get('refresh_token') ?? undefined,
    scope: parameters.get('scope') ?? undefined,
    resource: parameters.get('resource') ?? undefined,
    dpop: proofOf(message),
  }
}

function proofOf({ headers }: IncomingMessage): string | undefined {
  return headers.dpop as string | undefined
}

function refreshed(request: TokenRequest): boolean {
  const processed = request.fault === undefined || losesAnswer(request.fault)
  return processed && request.grantType === 'refresh_token' && request.status === 200
}

function isReuse(request: TokenRequest, all: readonly TokenRequest[]): boolean {
  if (request.error !== 'invalid_grant' || request.refreshToken === undefined) return false
  return all.some((other) => refreshed(other) && other.refreshToken === request.refreshToken)
}

function presentedAgain(requests: readonly TokenRequest[]): string[] {
  const presented = requests.flatMap(({ refreshToken }) => refreshToken ?? [])
  return [...new Set(presented.filter((token, index) => presented.indexOf(token) !== index))]
}

function fieldsOf(answer: Answer): Record<string, unknown> {
  try {
    return JSON.parse(String(answer.body)) as Record<string, unknown>
  } catch {
    return {}
  }
}

const turns = new WeakMap<Provider, Promise<unknown>>()

/**
 * Has the provider answer a request whose body has been read.
 *
 * Requests take turns: the provider looks up a refresh token and consumes it in two steps, so of two that arrive at
 * the same moment both would succeed, and the reuse would go unseen.
 */
function ask(provider: Provider, message: Replayed, body: string): Promise<Answer> {
  const answer = (turns.get(provider) ?? Promise.resolve()).then(() => answerOf(provider, message, body))
  turns.set(
    provider,
    answer.catch(() => {}),
  )
  return answer
}

type Replayed = Pick<IncomingMessage, 'method' | 'url' | 'headers'> & { readonly socket?: Socket }

/** The answer is caught before it is sent: the client may have gone by now, the work is done all the same. */
async function answerOf(provider: Provider, message: Replayed, body: string): Promise<Answer> {
  const replay = new IncomingMessage(message.socket ?? new Socket())
  Object.assign(replay, {
    method: message.method,
    url: message.url,
    headers: message.headers,
    complete: true,
  })
  replay.push(body)
  replay.push(null)
  const caught = new ServerResponse(replay)
  let text = ''
  caught.end = ((chunk?: string | Buffer) => {
    text = chunk?.toString() ?? ''
    return caught
  }) as typeof caught.end
  await provider.callback()(replay, caught)
  const headers = Object.entries(caught.getHeaders()).map(([name, value]) => [name, String(value)])
  return { status: caught.statusCode, headers: Object.fromEntries(headers), body: text }
}

async function authorize(
  provider: Provider,
  options: AuthorizationServerOptions,
  accountId: string,
  request: LoginRequest,
): Promise<AuthorizationCodeGrant> {
  const { scope = SCOPE, client = 'client_secret_basic' } = request
  const resource = grantedResources(options, request)
  const { clientId } = clients[client]
  const grantId = await saveGrant(provider, accountId, clientId, scope, resource)
  const verifier = randomBytes(32).toString('base64url')
  const code = new provider.AuthorizationCode({
    client: (await provider.Client.find(clientId))!,
    accountId,
    grantId,
    scope,
    gty: 'authorization_code',
    authTime: Math.floor(Date.now() / 1000),
    redirectUri: REDIRECT_URI,
    codeChallenge: createHash('sha256').update(verifier).digest('base64url'),
    codeChallengeMethod: 'S256',
    ...(resource.length > 0 && { resource }),
    ...(request.dpopJkt !== undefined && { dpopJkt: request.dpopJkt }),
  })
  return {
    grant_type: 'authorization_code',
    code: await code.save(),
    redirect_uri: REDIRECT_URI,
    code_verifier: verifier,
  }
}

async function login(
  provider: Provider,
  options: AuthorizationServerOptions,
  accountId: string,
  request: LoginRequest,
): Promise<TokenResponse> {
  const grant = await authorize(provider, options, accountId, request)
  const client = await authentication(provider, request.client ?? 'client_secret_basic')
  const body = new URLSearchParams({ ...grant, ...client.parameters }).toString()
  const headers = {
    host: new URL(provider.issuer).host,
    'content-type': 'application/x-www-form-urlencoded',
    'content-length': String(Buffer.byteLength(body)),
    ...client.headers,
  }
  const url = '/token'
  const sent = async (nonce?: string) => {
    const { dpopKey } = request
    const proof = dpopKey && { dpop: await dpopProof(dpopKey, `${provider.issuer}${url}`, nonce) }
    return ask(provider, { method: 'POST', url, headers: { ...headers, ...proof } }, body)
  }
  const first = await sent()
  const isWithoutNonce = fieldsOf(first).error === 'use_dpop_nonce'
  const answer = isWithoutNonce ? await sent(first.headers?.['dpop-nonce']) : first
  if (answer.status !== 200) throw new Error(`the login failed: ${answer.status} ${answer.body}`)
  return fieldsOf(answer) as TokenResponse
}

function grantedResources(options: AuthorizationServerOptions, request: LoginRequest): string[] {
  const standard = options.accessTokenFormat === 'jwt' ? [DEFAULT_RESOURCE] : []
  return [...standard, ...[request.resource ?? []].flat()]
}

function saveGrant(
  provider: Provider,
  accountId: string,
  clientId: string,
  scope: string,
  resources: readonly string[],
): Promise<string> {
  const grant = new provider.Grant({ accountId, clientId })
  grant.addOIDCScope(scope)
  for (const resource of resources) grant.addResourceScope(resource, RESOURCE_SCOPE)
  return grant.save()
}

async function authentication(
  provider: Provider,
  method: ClientAuthenticationMethod,
): Promise<{ headers?: Record<string, string>; parameters?: Record<string, string> }> {
  const { clientId } = clients[method]
  switch (method) {
    case 'client_secret_basic': {
      const credentials = `${formEncoded(clientId)}:${formEncoded(SECRET)}`
      return { headers: { authorization: `Basic ${Buffer.from(credentials).toString('base64')}` } }
    }
    case 'client_secret_post':
      return { parameters: { client_id: clientId, client_secret: SECRET } }
    case 'client_secret_jwt':
      return { parameters: await assertion(provider, clientId, 'HS256', Buffer.from(SECRET)) }
    case 'private_key_jwt':
      return { parameters: await assertion(provider, clientId, 'ES256', clientKey.privateKey) }
    case 'none':
      return { parameters: { client_id: clientId } }
  }
}

async function assertion(
  provider: Provider,
  clientId: string,
  alg: string,
  key: Uint8Array | typeof clientKey.privateKey,
): Promise<Record<string, string>> {
  const jwt = new SignJWT()
    .setProtectedHeader({ alg })
    .setIssuer(clientId)
    .setSubject(clientId)
    .setAudience(provider.issuer)
    .setJti(randomBytes(16).toString('hex'))
    .setIssuedAt()
    .setExpirationTime('1 minute')
  return {
    client_id: clientId,
    client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
    client_assertion: await jwt.sign(key),
  }
}

function formEncoded(text: string): string {
  return new URLSearchParams([['', text]]).toString().slice(1)
}

const LOGIN_PAGE: Answer = {
  status: 200,
  headers: { 'content-type': 'text/html' },
  body: '<!doctype html><title>Provider</title><form method="post"><button>Continue</button></form>',
}

/** Logs the browser in, and grants what it asks for, without a page. */
async function finishInteraction(
  provider: Provider,
  message: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { prompt, params, session, grantId } = await provider.interactionDetails(message, response)
  if (prompt.name === 'login') {
    const accountId = String(params.login_hint ?? 'alice')
    const [acr] = String(params.acr_values ?? '').split(' ')
    const login = { accountId, ...(acr && { acr }) }
    return provider.interactionFinished(message, response, { login })
  }
  const known = grantId === undefined ? undefined : await provider.Grant.find(grantId)
  const grant =
    known ?? new provider.Grant({ accountId: session!.accountId, clientId: String(params.client_id) })
  grant.addOIDCScope(String(params.scope))
  for (const resource of [params.resource ?? []].flat())
    grant.addResourceScope(String(resource), RESOURCE_SCOPE)
  const consent = { grantId: await grant.save() }
  return provider.interactionFinished(message, response, { consent }, { mergeWithLastSubmission: true })
}

async function isActive(
  provider: Provider,
  grantOfToken: ReadonlyMap<string, string>,
  token: string,
): Promise<boolean> {
  if (token.split('.').length === 3) return isActiveJwt(provider, grantOfToken, token)
  const found = (await provider.AccessToken.find(token)) ?? (await provider.RefreshToken.find(token))
  return found?.isValid ?? false
}

/** The provider keeps no record of a JWT access token; its expiry and its grant are all there is. */
async function isActiveJwt(
  provider: Provider,
  grantOfToken: ReadonlyMap<string, string>,
  token: string,
): Promise<boolean> {
  const { jti, exp } = decodeJwt(token)
  const grant = await provider.Grant.find(grantOfToken.get(String(jti)) ?? '')
  return grant !== undefined && Number(exp) * 1000 > Date.now()
}

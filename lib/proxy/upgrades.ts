import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { type ProblemDetails, problemDetails } from '../errors/problem-details.js'
import { ConfigurationError } from '../errors/token-error.js'
import { checkOptions, type OptionTable } from '../options/option-table.js'
import { asksForWebSocket, checkedAllowedOrigins } from '../outbound/cross-origin.js'
import { whenClosed } from '../outbound/streams.js'
import type { UpgradedSocket } from './upstream-request.js'

/** The listener for an app's requests: Express' app, or Koa's `app.callback()`. */
export type App = (request: IncomingMessage, response: ServerResponse) => unknown

/** Which pages may open WebSockets. */
export interface UpgradeOptions {
  /**
   * Origins whose pages may open WebSockets here, besides those of this site and those that the `bearerProxy()` of a route
   * allows: `['https://app.example.com']`. Default: none.
   */
  allowedOrigins?: readonly string[]
}

const OPTIONS = { allowedOrigins: checkedAllowedOrigins } satisfies OptionTable<UpgradeOptions>

const USAGE = {
  of: 'upgradesThrough()',
  takes: 'The options of upgradesThrough() must be an object, or left out',
  cures: { origin: 'Did you mean `allowedOrigins`?', origins: 'Did you mean `allowedOrigins`?' },
}

/** A request for a WebSocket on its way through the app. */
export interface Upgrade {
  /** Origins whose pages may open WebSockets. */
  readonly allowedOrigins: ReadonlySet<string>
  /** The socket to the API, once the API has agreed. The response to the browser shows whether this site has agreed, too. */
  upstream?: UpgradedSocket
  /** Responds after the app's middleware has run, since middleware of Koa may set headers at its end. */
  respond?: () => void
}

const upgrades = new WeakMap<IncomingMessage, Upgrade>()

/**
 * Returns the upgrade of a request that came through {@link upgradesThrough}; `undefined` for a request that asks for no
 * WebSocket, or whose `Connection` header asks for no upgrade.
 *
 * @throws `ConfigurationError` for a request for a WebSocket that came another way: without a listener for upgrades, Node's
 * server serves it as an ordinary request
 */
export function upgradeOf(request: IncomingMessage): Upgrade | undefined {
  if (!asksForWebSocket(request.headers)) return undefined
  const upgrade = upgrades.get(request)
  const { connection = '' } = request.headers
  if (upgrade || !/\bupgrade\b/i.test(connection)) return upgrade
  throw new ConfigurationError(
    "This request is for a WebSocket, and no listener for upgrades passes it on. Add server.on('upgrade', upgradesThrough(app)).",
  )
}

/** Whether the options of {@link upgradesThrough} allow the origin of the page that opens a WebSocket. */
export function allowedByUpgrades(request: IncomingMessage): boolean {
  return upgrades.get(request)?.allowedOrigins.has(request.headers.origin ?? '') ?? false
}

/**
 * Makes WebSockets go through the app. The request for a WebSocket meets the session, the guards and the routes as every request
 * does. The `bearerProxy()` at its route connects the socket to the API, with a valid token. A request that no `bearerProxy()`
 * handles gets the app's response, e.g. 404, and its socket is closed.
 *
 * Browsers let every site open WebSockets, with the cookies of this one. So `bearerProxy()` refuses those that a page of another
 * origin opens with 403, unless `allowedOrigins` names it, here or there (RFC 6455 §10.2). The token is sent when the socket is
 * opened, and not again. When the login ends, the socket is closed, unless the `bearerProxy()` has `endWithLogin: false`.
 *
 * The listener responds to every upgrade of the server. An app with WebSockets of its own calls the listener only for the other
 * upgrades.
 *
 * @param app Express' app, or Koa's `app.callback()`
 * @throws `ConfigurationError` when an option is wrong
 *
 * @example
 * const server = app.listen(3000)
 * server.on('upgrade', upgradesThrough(app))
 */
export function upgradesThrough(
  app: App,
  options: UpgradeOptions = {},
): (request: IncomingMessage, socket: Duplex, head: Buffer) => void {
  const allowedOrigins = checked(app, options)

  return function upgradeListener(request, socket, head) {
    socket.on('error', ignore)
    try {
      serve(app, allowedOrigins, request, socket as Socket, head)
    } catch {
      // The browser has sent another request before the last response went out, so there is no way to respond in order.
      socket.destroy()
    }
  }
}

/** Ignores an error of a socket, whose user sees its end. Without a listener an error would end the process. */
function ignore(): void {}

function checked(app: unknown, options: UpgradeOptions): ReadonlySet<string> {
  if (typeof app !== 'function') {
    throw new ConfigurationError(
      'upgradesThrough() takes the listener for the requests of the app: upgradesThrough(app) with Express, upgradesThrough(app.callback()) ' +
        'with Koa.',
    )
  }
  return checkOptions(options, OPTIONS, USAGE).allowedOrigins
}

function serve(
  app: App,
  allowedOrigins: ReadonlySet<string>,
  request: IncomingMessage,
  socket: Socket,
  head: Buffer,
): void {
  const upgrade: Upgrade = { allowedOrigins }
  const unwatch = watchEnd(socket)
  const response = responseOver(socket, request, () => {
    unwatch()
    if (upgrade.upstream && response.statusCode === 101) join(socket, head, upgrade.upstream)
    else socket.destroySoon()
  })
  endTogether(socket, upgrade)
  const refusal = refusalOf(request)
  if (refusal) {
    response.writeHead(refusal.status, refusal.headers).end(refusal.body)
    return
  }
  if (asksForWebSocket(request.headers)) upgrades.set(request, upgrade)
  respond(app, request, response, upgrade).catch(() => socket.destroy())
}

async function respond(
  app: App,
  request: IncomingMessage,
  response: ServerResponse,
  upgrade: Upgrade,
): Promise<void> {
  await app(request, response)
  const finish = upgrade.respond
  delete upgrade.respond
  if (!response.headersSent) finish?.()
}

/**
 * Destroys the socket to the API when the browser's socket is closed. This is a function of its own, so that the listener, which
 * lives as long as the socket, does not hold the request.
 */
function endTogether(socket: Socket, upgrade: Upgrade): void {
  socket.once('close', () => upgrade.upstream?.socket.destroy())
}

/**
 * Destroys the browser's socket when the browser ends it before the response. Nothing reads the socket by then, so that what the
 * browser sends early waits for the API. Returns a function that stops this.
 */
function watchEnd(socket: Socket): () => void {
  const onReadable = () => {
    // At the end of the stream this emits `end`.
    if (socket.readableLength === 0) socket.read()
  }
  const onEnd = () => void socket.destroy()
  socket.on('readable', onReadable)
  socket.on('end', onEnd)
  return () => {
    socket.off('readable', onReadable)
    socket.off('end', onEnd)
  }
}

/** Makes the response to a request that the server has handed over with its socket. */
function responseOver(socket: Socket, request: IncomingMessage, onFinish: () => void): ServerResponse {
  const response = new ServerResponse(request)
  response.shouldKeepAlive = false
  response.assignSocket(socket)
  const drained = () => response.emit('drain')
  socket.setTimeout(0)
  socket.on('drain', drained)
  response.once('finish', () => {
    socket.off('drain', drained)
    response.detachSocket(socket)
    response.emit('close')
    onFinish()
  })
  return response
}

function refusalOf(request: IncomingMessage): ProblemDetails | undefined {
  const { headers, method } = request
  if (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0) {
    return problemDetails(400, 'Bad Request', 'A request for an upgrade must have no body.')
  }
  const isWebSocket = asksForWebSocket(headers)
  return isWebSocket && method !== 'GET'
    ? problemDetails(400, 'Bad Request', 'A WebSocket is asked for with GET.')
    : undefined
}

/** Joins the browser's and the API's socket: when one of them ends or breaks, so does the other. */
function join(
  browser: Socket,
  browserHead: Buffer,
  { socket: upstream, head: upstreamHead }: UpgradedSocket,
): void {
  for (const socket of [browser, upstream]) {
    socket.setTimeout(0)
    socket.setNoDelay(true)
    socket.setKeepAlive(true)
  }
  if (browserHead.length > 0) browser.unshift(browserHead)
  if (upstreamHead.length > 0) upstream.unshift(upstreamHead)
  browser.pipe(upstream).pipe(browser)
  // Some leave their end open when the other one has ended.
  browser.once('end', () => upstream.destroySoon())
  // The API or the end of the login may have closed it before the response was sent.
  whenClosed(upstream, () => browser.destroySoon())
}

import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { asksForWebSocket, checkedAllowedOrigins } from '../../cross-origin.js'
import { ConfigurationError } from '../../errors.js'
import { ownOptions } from '../../own-options.js'
import { type Problem, problem } from '../../problem.js'
import type { UpgradedSocket } from './upstream-request.js'

/** What answers requests: Express' app, or Koa's `app.callback()`. */
export type App = (request: IncomingMessage, response: ServerResponse) => unknown

/** Who may open WebSockets. */
export interface UpgradeOptions {
  /**
   * Origins whose pages may open WebSockets here, besides those of this site and those that the `bearerProxy()` of a route
   * allows: `['https://app.example.com']`. Default: none.
   */
  allowedOrigins?: readonly string[]
}

/** A request for a WebSocket on its way through the app. */
export interface Upgrade {
  /** Origins whose pages may open WebSockets. */
  readonly allowedOrigins: ReadonlySet<string>
  /** The API's end, once it has agreed. The answer says whether we do, too. */
  far?: UpgradedSocket
  /** Answers when the app's middleware is through: Koa's sets headers as late as that. */
  answer?: () => void
}

const upgrades = new WeakMap<IncomingMessage, Upgrade>()

/**
 * What is known of a request for a WebSocket that came through {@link upgradesThrough}.
 *
 * @throws `ConfigurationError` for one that did not: Node's server takes it for an ordinary request where nobody listens
 */
export function upgradeOf(request: IncomingMessage): Upgrade | undefined {
  const upgrade = upgrades.get(request)
  const { connection = '' } = request.headers
  if (upgrade || !asksForWebSocket(request.headers) || !/\bupgrade\b/i.test(connection)) return upgrade
  throw new ConfigurationError(
    "A WebSocket is asked for, and nothing passes it on. Add server.on('upgrade', upgradesThrough(app)).",
  )
}

/** Whether the options of {@link upgradesThrough} allow the page that asks for a WebSocket. */
export function allowedByUpgrades(request: IncomingMessage): boolean {
  return upgrades.get(request)?.allowedOrigins.has(request.headers.origin ?? '') ?? false
}

/**
 * Makes WebSockets go through the app: the request for one meets the session, the guards and the routes as every request
 * does, and the `bearerProxy()` at its route hands the socket over to the API, with a fresh token. What is not for a proxy
 * is answered as it would be otherwise, 404 and all, and the socket closed.
 *
 * Browsers let every site open WebSockets, with the cookies of this one. So `bearerProxy()` refuses those that a page of
 * another origin opens with 403, unless `allowedOrigins` names it, here or there (RFC 6455 §10.2). The API is asked when the
 * socket is opened and never again: one that is open stays open when the user logs out, for as long as the API thinks fit.
 *
 * It answers every upgrade of the server. An app with WebSockets of its own calls what this returns for the others.
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
      // Somebody who asks for more before the last answer has gone out: there is no way to answer in turn.
      socket.destroy()
    }
  }
}

/** Whoever uses a socket is told; without a listener an error would end the process. */
function ignore(): void {}

function checked(app: unknown, options: UpgradeOptions): ReadonlySet<string> {
  if (typeof app !== 'function') {
    throw new ConfigurationError(
      'upgradesThrough() takes what answers requests: upgradesThrough(app) with Express, upgradesThrough(app.callback()) ' +
        'with Koa.',
    )
  }
  if (typeof options !== 'object' || options === null) {
    throw new ConfigurationError('The options of upgradesThrough() must be an object, or left out.')
  }
  const { allowedOrigins } = ownOptions(options, ['allowedOrigins'], 'upgradesThrough()', {
    origin: 'Did you mean `allowedOrigins`?',
    origins: 'Did you mean `allowedOrigins`?',
  })
  return checkedAllowedOrigins(allowedOrigins)
}

function serve(
  app: App,
  allowedOrigins: ReadonlySet<string>,
  request: IncomingMessage,
  socket: Socket,
  head: Buffer,
): void {
  const upgrade: Upgrade = { allowedOrigins }
  const response = responseOver(socket, request, () => {
    if (upgrade.far && response.statusCode === 101) join(socket, head, upgrade.far)
    else socket.destroySoon()
  })
  endTogether(socket, upgrade)
  const refusal = refusalOf(request)
  if (refusal) {
    response.writeHead(refusal.status, refusal.headers).end(refusal.body)
    return
  }
  if (asksForWebSocket(request.headers)) upgrades.set(request, upgrade)
  answered(app, request, response, upgrade).catch(() => socket.destroy())
}

async function answered(
  app: App,
  request: IncomingMessage,
  response: ServerResponse,
  upgrade: Upgrade,
): Promise<void> {
  await app(request, response)
  const { answer } = upgrade
  delete upgrade.answer
  if (!response.headersSent) answer?.()
}

/** On its own, so that what lives as long as the socket holds nothing of the request. */
function endTogether(socket: Socket, upgrade: Upgrade): void {
  socket.once('close', () => upgrade.far?.socket.destroy())
}

/** The response to a request of which the server has let go. */
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

function refusalOf(request: IncomingMessage): Problem | undefined {
  const { headers, method } = request
  if (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0) {
    return problem(400, 'Bad Request', 'A request for an upgrade must have no body.')
  }
  const isWebSocket = asksForWebSocket(headers)
  return isWebSocket && method !== 'GET'
    ? problem(400, 'Bad Request', 'A WebSocket is asked for with GET.')
    : undefined
}

/** Two sockets become one: when one of them ends or breaks, so does the other. */
function join(near: Socket, nearHead: Buffer, { socket: far, head: farHead }: UpgradedSocket): void {
  for (const socket of [near, far]) {
    socket.setTimeout(0)
    socket.setNoDelay(true)
    socket.setKeepAlive(true)
  }
  if (nearHead.length > 0) near.unshift(nearHead)
  if (farHead.length > 0) far.unshift(farHead)
  near.pipe(far).pipe(near)
  // Some leave their end open when the other one has ended.
  near.once('end', () => far.destroySoon())
  far.once('close', () => near.destroySoon())
}

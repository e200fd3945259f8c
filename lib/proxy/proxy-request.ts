import type { IncomingMessage, ServerResponse } from 'node:http'
import { onResponseClosed } from '../concurrency/response-closed.js'
import type { KnownOfRequest } from '../outbound/cross-origin.js'
import type { ParsedBody } from './body.js'
import type { Addressed } from './path.js'
import { type Upgrade, upgradeOf } from './upgrades.js'

/** A request for a proxied route, as a framework has it. */
export abstract class ProxyRequest implements KnownOfRequest {
  /** The object that has the tokens, and its usual name in a handler. */
  abstract readonly carrier: object
  abstract readonly carrierName: string
  abstract readonly parsed: ParsedBody
  /** The client and the URL, as far as the framework trusts the proxies in front (`trust proxy`, `app.proxy`). */
  abstract readonly ip: string | undefined
  abstract readonly protocol: string | undefined
  abstract readonly host: string | undefined

  readonly request: IncomingMessage & Addressed
  readonly response: ServerResponse
  /** The upgrade, if the request is for a WebSocket. */
  readonly upgrade: Upgrade | undefined
  /** Is called when the browser disconnects before it has the whole response. An AbortSignal costs several times as much. */
  onDisconnect: (() => void) | undefined
  #isDisconnected = false

  constructor(request: IncomingMessage & Addressed, response: ServerResponse) {
    this.request = request
    this.response = response
    this.upgrade = upgradeOf(request)
    onResponseClosed(request, response, () => this.#closed())
  }

  /** Returns the whole URL, if a router has removed the path of the mount. */
  get originalUrl(): string | undefined {
    return this.request.originalUrl
  }

  get isDisconnected(): boolean {
    return this.#isDisconnected
  }

  #closed(): void {
    if (this.response.writableFinished) return
    this.#isDisconnected = true
    this.onDisconnect?.()
  }
}

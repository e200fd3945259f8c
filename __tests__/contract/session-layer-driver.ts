import type { GrantStore, SessionTokens, TokenEvent } from '../../lib/index.js'
import type { ProcessServices } from '../../lib/middleware/composition.js'
import type { AuthorizationServer } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import type { TestClock } from '../helpers/clock.js'
import type { Gate } from '../helpers/gate.js'
import type { MatrixLayer } from './layer-matrix.js'

/** What a handler of these tests has of a request, whatever the framework and the session layer. */
export interface Visit {
  readonly tokens: SessionTokens
  /** The data of the session, to be read and changed; always that of the session which the request has now. */
  readonly session: Record<string, unknown>
  /** Stores the session now. */
  save(): Promise<void>
  /** Gives the session another id and carries its data over. */
  regenerate(): Promise<void>
  /** Ends the session. It may be gone only when the request has ended. */
  destroy(): Promise<void>
  /** Sends the headers of the answer, 200. */
  begin(): void
  /** The body that was posted, if it was JSON. */
  readonly body: unknown
}

/** Where the sessions of a site are, when it is not running too. */
export interface Sessions {
  /** Frees what it takes. */
  close(): Promise<void>
}

/** How a site is to be started. */
export interface LayerSiteOptions<S extends Sessions> {
  /** The sessions it is to go on with, those of another site or of one that was stopped. */
  readonly sessions: S
  readonly clock: TestClock
  /** What a process has one of. Left out in part or whole: a process of its own. */
  readonly surroundings: Partial<ProcessServices>
  /** The options of the session layer, one of the driver's `eager`; the usual ones if left out. */
  readonly eager?: string
  /** What the tokens in the sessions are sealed with. Left out: as the driver likes. */
  readonly encryptionKeys?: readonly string[]
  /** The option `grants`, of a grant store that other processes share. Left out: one of the process itself. */
  readonly grants?: GrantStore
}

/** A site on one session layer. */
export interface LayerSite {
  readonly events: readonly TokenEvent[]
  /**
   * Answers `GET` and `POST` of a path, with what the handler returns as JSON. What it throws is answered with its
   * `status`, and its `code` in a JSON object. May be called at any time, again too.
   */
  handle(path: string, handler: (visit: Visit) => unknown): void
  /** A browser at this site: without cookies, or with those of another one at this moment. */
  browser(visitor?: Browser): Browser
  /** The data of a browser's session as its next request would find it, with its tokens in the clear. */
  stored(tab: Browser): Promise<Record<string, unknown> | undefined>
  /** What names the session of a browser: it changes when the session is regenerated. */
  idOf(tab: Browser): string
  close(): Promise<void>
}

/** A site whose sessions are in a store. */
export interface StoredLayerSite extends LayerSite {
  readonly store: {
    /** From now on writes of sessions wait at the gate, before they reach the store. */
    holdWrites(): Gate
    /** The same for reads. */
    holdReads(): Gate
    /** How many writes the store has been asked for. */
    writes(): number
    failNextWrite(): void
    /** From now on every write fails, until what it returns is called. */
    failWrites(): () => void
  }
}

/** A site whose sessions are where the app itself has put them. */
export interface OwnLayerSite extends LayerSite {
  failNextWrite(): void
  /** From now on every write fails, until what it returns is called. */
  failWrites(): () => void
}

/** Starts sites on one session layer. */
export interface SessionLayerDriver<S extends Sessions, Site extends LayerSite> extends MatrixLayer {
  readonly name: string
  /** What its cookies are called. */
  readonly cookies: readonly string[]
  /**
   * The configurations, by any names, in which the layer saves sessions that the app has not changed: all of what the
   * request holds goes back to where sessions are.
   */
  readonly eager: readonly string[]
  openSessions(): Promise<S>
  start(
    server: Pick<AuthorizationServer, 'tokenEndpoint' | 'revocationEndpoint' | 'clients'>,
    options: LayerSiteOptions<S>,
  ): Promise<Site>
  /**
   * Keeps a browser's session as it is now. What it returns brings that state back once, as a slow request that knows
   * nothing of this library does, and gives the browser that has it then. It may be called more than once.
   */
  remember(site: Site, sessions: S, tab: Browser): Promise<() => Promise<Browser>>
}

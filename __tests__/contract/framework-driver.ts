import type { ServerResponse } from 'node:http'
import type { RequireTokensOptions, SessionTokens, SessionTokensOptions } from '../../lib/index.js'
import type { ProcessServices } from '../../lib/middleware/composition.js'
import type { Browser } from '../helpers/browser.js'

/** What a handler has of a request, whatever the framework. */
export interface FrameworkVisit {
  readonly tokens: SessionTokens
  /** The tokens that are mounted under another property. */
  tokensOf(property: string): SessionTokens
  readonly session: Record<string, unknown>
  /** The body that was posted, if it was JSON. */
  readonly body: unknown
  /** The answer, as Node has it. */
  readonly response: ServerResponse
}

export type FrameworkHandler = (visit: FrameworkVisit) => unknown

/**
 * An app that is being put together: what is mounted first comes first. Paths are exact, except of what is mounted with
 * `on`, which is for everything below as well.
 */
export interface FrameworkApp {
  /** The framework's usual session middleware, with a store in memory of its own. */
  sessions(): void
  /** The framework's `sessionTokens()`; as a process with these surroundings, if they are given. */
  tokens(
    options: SessionTokensOptions,
    mounting?: { on?: string; surroundings?: ProcessServices },
  ): { close(): Promise<void> }
  /** The framework's `requireTokens()`. */
  guard(on: string, options?: RequireTokensOptions): void
  /** Answers a path with what the handler returns, as JSON. What it throws is left to the framework. */
  handle(path: string, handler: FrameworkHandler): void
  /** A browser in front of the app, which runs until the test is over. */
  listen(): Promise<Browser & { readonly url: string }>
  /** What reached the app's error handler. The answer is the framework's own, as in production. */
  readonly errors: readonly unknown[]
}

export interface FrameworkDriver {
  readonly name: string
  /** What its handlers call that which has the tokens. */
  readonly carrier: 'req' | 'ctx'
  /** The cookies of a session. */
  readonly cookies: readonly string[]
  /** What the error says to an app without sessions. */
  readonly cure: RegExp
  /** A new app; `closing` takes what is to be called when the test is over. */
  app(closing: (close: () => Promise<unknown>) => void): FrameworkApp
}

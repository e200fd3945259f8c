import type { IncomingMessage, ServerResponse } from 'node:http'
import { problemOf } from '../errors/problem-details.js'
import { TokenError } from '../errors/token-error.js'
import { fn, optional } from '../options/option-kinds.js'
import { checkOptions, type OptionTable } from '../options/option-table.js'
import { reportError } from './report-error.js'
import { notExpressError, notKoaError } from './wrong-framework.js'

/** The options of `tokenErrors()`. */
export interface TokenErrorsOptions {
  /**
   * Gets each error with a status from 500 on, for the log. Default: Express prints it on stderr, and Koa emits the event
   * `error` of the app, as both do with errors that no handler takes.
   */
  onError?: (error: TokenError, request: object) => void
}

const OPTIONS = {
  onError: optional(fn('(error) => log.error(error)')),
} satisfies OptionTable<TokenErrorsOptions>

const usageOf = (mount: string) => ({
  of: 'tokenErrors()',
  takes: 'tokenErrors() takes an object: tokenErrors({ onError })',
  mount,
  cures: { logger: 'Did you mean `onError`?', log: 'Did you mean `onError`?' },
})

/**
 * Responds to requests that failed with an error of this library: with the status of the error and a problem body (RFC 9457) of
 * `title`, `status`, `detail` and `code`. A `StepUpError` adds `acr_values`, `max_age`, `scope` and `claims`, as far as the API
 * named them (RFC 9470 §3). `requireTokens()` and `bearerProxy()` respond with the same bodies. No message is shown. Other errors
 * go to the next error handler. Mount it after the routes.
 *
 * @throws `ConfigurationError` when an option is wrong
 *
 * @example
 * app.use(tokenErrors())
 */
export function tokenErrors(options: TokenErrorsOptions = {}) {
  const { onError } = checkOptions(options, OPTIONS, usageOf('app.use(tokenErrors())'))

  // Express recognizes an error handler by its four parameters.
  return function tokenErrorsMiddleware(
    error: unknown,
    request: IncomingMessage,
    response: ServerResponse,
    next: (error?: unknown) => void,
  ): void {
    if (typeof next !== 'function') throw notExpressError()
    if (!(error instanceof TokenError) || response.headersSent) {
      next(error)
      return
    }
    if (error.status >= 500) {
      if (onError) onError(error, request)
      else reportError(error)
    }
    const { status, headers, body } = problemOf(error)
    response.writeHead(status, headers).end(body)
  }
}

/** The part of Koa's context that is used. */
interface Context {
  readonly app: { emit(event: 'error', error: Error, ctx: object): unknown }
  readonly headerSent: boolean
  status: number
  body: unknown
  set(headers: Record<string, string>): void
}

/**
 * Responds to requests that failed with an error of this library: with the status of the error and a problem body (RFC 9457) of
 * `title`, `status`, `detail` and `code`. A `StepUpError` adds `acr_values`, `max_age`, `scope` and `claims`, as far as the API
 * named them (RFC 9470 §3). `requireTokens()` and `bearerProxy()` respond with the same bodies. No message is shown. Other errors
 * are thrown on. Mount it before `sessionTokens()`.
 *
 * @throws `ConfigurationError` when an option is wrong
 *
 * @example
 * app.use(tokenErrors())
 */
export function koaTokenErrors(options: TokenErrorsOptions = {}) {
  const { onError } = checkOptions(options, OPTIONS, usageOf('app.use(tokenErrors())'))

  return async function tokenErrorsMiddleware(ctx: Context, next: () => Promise<unknown>): Promise<void> {
    if (typeof next !== 'function') throw notKoaError()
    try {
      await next()
    } catch (error) {
      if (!(error instanceof TokenError) || ctx.headerSent) throw error
      if (error.status >= 500) {
        if (onError) onError(error, ctx)
        else reportError(error, ctx)
      }
      const { status, headers, body } = problemOf(error)
      ctx.status = status
      ctx.set(headers)
      ctx.body = body
    }
  }
}

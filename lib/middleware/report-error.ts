/** The part of Koa's context with which an error is reported. */
export interface ReportingContext {
  readonly app: { emit(event: 'error', error: Error, ctx: object): unknown }
}

/** Reports an error as the frameworks do when no handler takes it: on stderr, or by the event `error` of a Koa app. */
export function reportError(error: Error, ctx?: ReportingContext): void {
  if (ctx) ctx.app.emit('error', error, ctx)
  else console.error(error)
}

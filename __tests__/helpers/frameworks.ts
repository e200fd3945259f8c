import { json } from 'node:stream/consumers'
import type express from 'express'
import type { ErrorRequestHandler, Request, RequestHandler } from 'express'
import session from 'express-session'
import type Koa from 'koa'
import type { Context, Middleware } from 'koa'
import koaSession, { type CreateSessionOptions } from 'koa-session'
import type { SessionTokens } from '../../lib/index.js'
import { composeMiddleware } from '../../lib/middleware/composition.js'
import * as expressTokens from '../../lib/middleware/express.js'
import * as koaTokens from '../../lib/middleware/koa.js'
import { koaSessions } from '../../lib/sessions/koa/koa-sessions.js'
import type { FrameworkDriver, FrameworkHandler, FrameworkVisit } from '../contract/framework-driver.js'
import { expressVersions, startApp } from './app.js'
import { browser } from './browser.js'
import { KOA_COOKIE, koaVersions } from './koa-site.js'
import { koaMemoryStore } from './koa-stores.js'

/** The frameworks and versions that the library supports. */
export const frameworks: readonly FrameworkDriver[] = [
  ...expressVersions.map(([name, version]) => expressDriver(name, version)),
  ...koaVersions.map(([name, version]) => koaDriver(name, version)),
]

function expressDriver(name: string, version: typeof express): FrameworkDriver {
  return {
    name,
    carrier: 'req',
    cookies: ['connect.sid'],
    cure: /Mount express-session before sessionTokens\(\): app\.use\(session\(/,
    app(closing) {
      const app = version()
      // As in production: no stack in an answer.
      app.set('env', 'production')
      const errors: unknown[] = []
      return {
        errors,
        sessions: () =>
          void app.use(
            session({
              secret: 'test',
              resave: false,
              saveUninitialized: false,
              store: new session.MemoryStore(),
            }),
          ),
        tokens(options, { on = '/', surroundings } = {}) {
          const middleware = surroundings
            ? expressTokens.middlewareOf(composeMiddleware(options, surroundings))
            : expressTokens.sessionTokens(options)
          app.use(on, middleware)
          closing(() => middleware.close())
          return middleware
        },
        guard: (on, options) => void app.use(on, expressTokens.requireTokens(options)),
        handle: (path, handler) =>
          void app.all(path, version.json(), expressHandler(handler) as RequestHandler),
        async listen() {
          app.use(((error, _request, _response, next) => {
            errors.push(error)
            next(error)
          }) as ErrorRequestHandler)
          const running = await startApp(() => app)
          closing(running.close)
          return Object.assign(browser(running.url), { url: running.url })
        },
      }
    },
  }
}

function expressHandler(handler: FrameworkHandler): RequestHandler {
  return (request, response, next) => {
    new Promise((resolve) => resolve(handler(expressVisit(request)))).then(
      (result) => response.json(result ?? null),
      next,
    )
  }
}

function expressVisit(request: Request): FrameworkVisit {
  return {
    tokens: request.tokens,
    tokensOf: (property) => request[property as 'tokens'],
    session: request.session as unknown as Record<string, unknown>,
    body: request.body,
    response: request.res!,
  }
}

function koaDriver(name: string, Version: typeof Koa): FrameworkDriver {
  return {
    name,
    carrier: 'ctx',
    cookies: [KOA_COOKIE, `${KOA_COOKIE}.sig`],
    cure: /Mount koa-session before sessionTokens\(\): app\.use\(session\(/,
    app(closing) {
      const app = new Version()
      app.keys = ['test']
      const errors: unknown[] = []
      app.on('error', (error) => errors.push(error))
      return {
        errors,
        sessions: () => void app.use(koaSession({ store: koaMemoryStore() } as CreateSessionOptions, app)),
        tokens(options, { on = '/', surroundings } = {}) {
          const middleware = surroundings
            ? koaTokens.middlewareOf(composeMiddleware(options, surroundings, koaSessions))
            : koaTokens.sessionTokens(options)
          app.use(below(on, middleware))
          closing(() => middleware.close())
          return middleware
        },
        guard: (on, options) => void app.use(below(on, koaTokens.requireTokens(options))),
        handle(path, handler) {
          app.use(async (ctx, next) => {
            if (ctx.path !== path) return next()
            ctx.body = JSON.stringify((await handler(await koaVisit(ctx))) ?? null)
          })
        },
        async listen() {
          const running = await startApp(() => app.callback())
          closing(running.close)
          return Object.assign(browser(running.url), { url: running.url })
        },
      }
    },
  }
}

function below(on: string, middleware: Middleware): Middleware {
  return (ctx, next) =>
    on === '/' || ctx.path === on || ctx.path.startsWith(`${on}/`) ? middleware(ctx, next) : next()
}

async function koaVisit(ctx: Context): Promise<FrameworkVisit> {
  return {
    tokens: ctx.tokens,
    tokensOf: (property) => ctx[property] as SessionTokens,
    session: ctx.session,
    body: ctx.request.length ? await json(ctx.req) : undefined,
    response: ctx.res,
  }
}

import { afterEach, describe, expect, it } from '@jest/globals'
import type { ErrorRequestHandler } from 'express'
import type Koa from 'koa'
import { ConfigurationError, StepUpError, TokenError, tokenErrors } from '../../lib/index.js'
import { tokenErrors as koaTokenErrors, type TokenErrorsOptions } from '../../lib/koa.js'
import { expressVersions, startApp } from '../helpers/app.js'
import { koaVersions } from '../helpers/koa-site.js'

/** An app whose only handler fails with an error, and what reaches its own error handling. */
type StartSite = (
  error: unknown,
  options?: TokenErrorsOptions,
) => Promise<{ url: string; passedOn: unknown[] }>

const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

const sites: [string, StartSite][] = [
  ...expressVersions.map(([name, version]): [string, StartSite] => [
    name,
    async (thrown, options) => {
      const app = version()
      const passedOn: unknown[] = []
      app.get('/', (_request, _response, next) => next(thrown))
      app.use(tokenErrors(options))
      app.use(((error, _request, response, _next) => {
        passedOn.push(error)
        response.status(418).end()
      }) as ErrorRequestHandler)
      const { url, close } = await startApp(() => app)
      closing.push(close)
      return { url, passedOn }
    },
  ]),
  ...koaVersions.map(([name, Version]): [string, StartSite] => [
    name,
    async (thrown, options) => {
      const app = new Version()
      const passedOn: unknown[] = []
      app.on('error', () => {})
      app.use(async (ctx, next) => {
        try {
          await next()
        } catch (error) {
          passedOn.push(error)
          ctx.status = 418
        }
      })
      app.use(koaTokenErrors(options) as unknown as Koa.Middleware)
      app.use(() => {
        throw thrown
      })
      const { url, close } = await startApp(() => app.callback())
      closing.push(close)
      return { url, passedOn }
    },
  ]),
]

describe.each(sites)('tokenErrors(), %s', (_, start) => {
  it.each<[TokenError, object, Record<string, string | null>]>([
    [
      new TokenError('ERR_NO_TOKENS', 'secretly'),
      { title: 'Unauthorized', status: 401, detail: 'Log in first.', code: 'ERR_NO_TOKENS' },
      { 'content-type': 'application/problem+json', 'cache-control': 'no-store', 'retry-after': null },
    ],
    [
      new TokenError('ERR_INSUFFICIENT_SCOPE', 'secretly', { details: 'the scope' }),
      {
        title: 'Forbidden',
        status: 403,
        detail: 'This login does not permit the request.',
        code: 'ERR_INSUFFICIENT_SCOPE',
      },
      {},
    ],
    [
      new TokenError('ERR_TOKEN_ENDPOINT_UNAVAILABLE', 'secretly', {
        retryAfterMs: 1_200,
        responseStatus: 429,
      }),
      {
        title: 'Service Unavailable',
        status: 503,
        detail: 'Try again later.',
        code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
      },
      { 'retry-after': '2' },
    ],
    [
      new ConfigurationError('secretly'),
      {
        title: 'Internal Server Error',
        status: 500,
        detail: 'The server could not handle the request.',
        code: 'ERR_CONFIGURATION',
      },
      {},
    ],
    [
      new StepUpError({ acrValues: 'mfa', maxAge: 60, claims: '{}' }),
      {
        title: 'Unauthorized',
        status: 401,
        detail: 'Log in again: a stronger or a more recent login is required.',
        code: 'ERR_STEP_UP_REQUIRED',
        error: 'insufficient_user_authentication',
        acr_values: 'mfa',
        max_age: 60,
        claims: '{}',
      },
      {},
    ],
  ])('responds to %s with a problem body', async (thrown, body, headers) => {
    const { url, passedOn } = await start(thrown, { onError() {} })
    const response = await fetch(url)
    expect(await response.json()).toEqual({ type: 'about:blank', ...body })
    expect(response.status).toBe(thrown.status)
    for (const [name, value] of Object.entries(headers)) expect(response.headers.get(name)).toBe(value)
    expect(passedOn).toEqual([])
  })

  it('passes other errors on', async () => {
    const other = new Error('of the app')
    const { url, passedOn } = await start(other)
    expect((await fetch(url)).status).toBe(418)
    expect(passedOn).toEqual([other])
  })

  it.each([
    ['ERR_GRANT_STORE', 1],
    ['ERR_NO_TOKENS', 0],
  ] as const)('calls onError for %s: %i times', async (code, times) => {
    const seen: unknown[] = []
    const thrown = new TokenError(code, 'for the log')
    const { url } = await start(thrown, { onError: (error) => seen.push(error) })
    await (await fetch(url)).text()
    expect(seen).toEqual(Array(times).fill(thrown))
  })
})

it('tokenErrors() of Koa gives an error of the server to the app, as Koa does', async () => {
  for (const [, Version] of koaVersions) {
    const app = new Version()
    const seen: unknown[] = []
    app.on('error', (error) => seen.push(error))
    app.use(koaTokenErrors() as unknown as Koa.Middleware)
    const thrown = new TokenError('ERR_GRANT_STORE', 'for the log')
    app.use(() => {
      throw thrown
    })
    const { url, close } = await startApp(() => app.callback())
    closing.push(close)
    expect((await fetch(url)).status).toBe(503)
    expect(seen).toEqual([thrown])
  }
})

it.each([tokenErrors, koaTokenErrors])('%p checks its options', (factory) => {
  expect(() => factory({ logger: console } as object)).toThrow('Did you mean `onError`?')
  expect(() => factory({ onError: 'log' } as object)).toThrow('`onError` must be a function')
})

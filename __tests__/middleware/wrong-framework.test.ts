import { describe, expect, it } from '@jest/globals'
import express from 'express'
import Koa from 'koa'
import {
  tokenErrors as errorsOnExpress,
  sessionTokens as onExpress,
  publicClient,
  refuseCrossOrigin as refuseOnExpress,
  requireTokens as requireOnExpress,
} from '../../lib/index.js'
import {
  tokenErrors as errorsOnKoa,
  sessionTokens as onKoa,
  refuseCrossOrigin as refuseOnKoa,
  requireTokens as requireOnKoa,
} from '../../lib/koa.js'
import { bearerProxy } from '../../lib/proxy.js'
import { expressVersions, startApp } from '../helpers/app.js'
import { koaVersions } from '../helpers/koa-site.js'

const options = {
  issuer: 'https://idp.example.com',
  clientId: 'web',
  clientAuthentication: publicClient(),
  encryptionKeys: false as const,
}

const tenants = { tenant: () => 'acme', options: () => options }

/** What a Koa app with a middleware says to a request. */
async function saidOnKoa(middleware: unknown, Version = Koa): Promise<string> {
  const app = new Version()
  const errors: { code?: string; message: string }[] = []
  app.on('error', (error) => errors.push(error))
  app.use(middleware as Koa.Middleware)
  const { url, close } = await startApp(() => app.callback())
  expect((await fetch(url)).status).toBe(500)
  await close()
  expect(errors[0]!.code).toBe('ERR_CONFIGURATION')
  return errors[0]!.message
}

/** The same on Express. */
async function saidOnExpress(version: typeof express, middleware: unknown): Promise<string> {
  const app = version()
  app.set('env', 'test')
  app.use(middleware as express.RequestHandler)
  app.use(((error, _request, response, _next) => {
    response.status(error.status ?? 500).json([error.code, error.message])
  }) as express.ErrorRequestHandler)
  const { url, close } = await startApp(() => app)
  const [code, message] = (await (await fetch(url)).json()) as [string, string]
  await close()
  expect(code).toBe('ERR_CONFIGURATION')
  return message
}

describe.each([
  ['an authorization server', options],
  ['tenants', tenants],
])('sessionTokens() for %s', (_, given) => {
  const options = given as typeof tenants

  it('of Express on Koa says where the other one is', async () => {
    expect(await saidOnKoa(onExpress(options))).toContain("from 'session-token-manager/koa'")
  })

  it('of Koa on Express says where the other one is', async () => {
    expect(await saidOnExpress(express, onKoa(options))).toContain("from 'session-token-manager'.")
  })
})

describe('refuseCrossOrigin()', () => {
  it('of Express on Koa says where the other one is', async () => {
    expect(await saidOnKoa(refuseOnExpress())).toContain("from 'session-token-manager/koa'")
  })

  it('of Koa on Express says where the other one is', async () => {
    expect(await saidOnExpress(express, refuseOnKoa())).toContain("from 'session-token-manager'.")
  })
})

describe('requireTokens()', () => {
  it('of Express on Koa says where the other one is', async () => {
    expect(await saidOnKoa(requireOnExpress())).toContain("from 'session-token-manager/koa'")
  })

  it('of Koa on Express says where the other one is', async () => {
    expect(await saidOnExpress(express, requireOnKoa())).toContain("from 'session-token-manager'.")
  })
})

describe('tokenErrors()', () => {
  it('of Express on Koa says where the other one is', async () => {
    expect(await saidOnKoa(errorsOnExpress())).toContain("from 'session-token-manager/koa'")
  })

  it('of Koa on Express says where the other one is', async () => {
    expect(await saidOnExpress(express, errorsOnKoa())).toContain("from 'session-token-manager'.")
  })
})

describe('a middleware that is mounted without being called says to call it', () => {
  it.each([
    ['sessionTokens', onExpress, 'app.use(sessionTokens({ … }))'],
    ['requireTokens', requireOnExpress, 'requireTokens(), handler)'],
    ['refuseCrossOrigin', refuseOnExpress, 'app.use(refuseCrossOrigin())'],
    ['tokenErrors', errorsOnExpress, 'app.use(tokenErrors())'],
    ['bearerProxy', bearerProxy, 'bearerProxy({ target })'],
  ])('%s on Express', async (_, middleware, cure) => {
    for (const [, version] of expressVersions) {
      expect(
        await saidOnExpress(version, (...args: unknown[]) =>
          (middleware as (...args: unknown[]) => unknown)(...args),
        ),
      ).toContain(cure)
    }
  })

  it.each([
    ['sessionTokens', onKoa, 'app.use(sessionTokens({ … }))'],
    ['requireTokens', requireOnKoa, 'requireTokens(), handler)'],
    ['refuseCrossOrigin', refuseOnKoa, 'app.use(refuseCrossOrigin())'],
    ['tokenErrors', errorsOnKoa, 'app.use(tokenErrors())'],
    ['bearerProxy', bearerProxy, 'bearerProxy({ target })'],
  ])('%s on Koa', async (_, middleware, cure) => {
    for (const [, Version] of koaVersions) {
      expect(
        await saidOnKoa(
          (...args: unknown[]) => (middleware as (...args: unknown[]) => unknown)(...args),
          Version,
        ),
      ).toContain(cure)
    }
  })
})

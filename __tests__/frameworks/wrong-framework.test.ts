import { expect, it } from '@jest/globals'
import express from 'express'
import Koa from 'koa'
import { sessionTokens as onExpress, publicClient } from '../../lib/index.js'
import { sessionTokens as onKoa } from '../../lib/koa.js'
import { startApp } from '../helpers/app.js'

const options = { issuer: 'https://idp.example.com', clientId: 'web', clientAuthentication: publicClient() }

it('sessionTokens() of Express on Koa says where the other one is', async () => {
  const app = new Koa()
  const errors: Error[] = []
  app.on('error', (error) => errors.push(error))
  app.use(onExpress(options) as never)
  const { url, close } = await startApp(() => app.callback())
  expect((await fetch(url)).status).toBe(500)
  expect(errors[0]).toMatchObject({ code: 'ERR_CONFIGURATION' })
  expect(errors[0]!.message).toContain("from 'session-token-manager/koa'")
  await close()
})

it('sessionTokens() of Koa on Express says where the other one is', async () => {
  const app = express()
  app.set('env', 'test')
  app.use(onKoa(options) as never)
  app.use(((error, _request, response, _next) => {
    response.status(error.status).send(error.message)
  }) as express.ErrorRequestHandler)
  const { url, close } = await startApp(() => app)
  const answer = await fetch(url)
  expect([answer.status, await answer.text()]).toEqual([
    500,
    expect.stringContaining("from 'session-token-manager'."),
  ])
  await close()
})

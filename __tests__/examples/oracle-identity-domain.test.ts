import { once } from 'node:events'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals'
import { type Browser, browser } from '../helpers/browser.js'
import { type OracleIdentityDomain, oracleIdentityDomain } from '../helpers/oracle-identity-domain.js'

let domain: OracleIdentityDomain
let server: Server
let visitor: Browser

beforeAll(async () => {
  domain = await oracleIdentityDomain('the-client', { kind: 'confidential', secret: 'the-secret' })
  Object.assign(process.env, {
    ORACLE_DOMAIN_URL: domain.url,
    CLIENT_ID: 'the-client',
    CLIENT_SECRET: 'the-secret',
    SESSION_SECRET: 'the-session-secret',
    SESSION_KEY: 'UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c=',
    PORT: '0',
    APP_URL: 'https://app.example.com',
  })
  jest.spyOn(console, 'log').mockImplementation(() => {})
  ;({ server } = await import('../../examples/oracle-identity-domain.js'))
  if (!server.listening) await once(server, 'listening')
  visitor = browser(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
})
afterAll(async () => {
  server.close()
  server.closeAllConnections()
  await domain.close()
})

describe('the example of an Oracle identity domain', () => {
  it('contacts nobody before the first login', () => {
    expect(domain.requests).toEqual([])
  })

  it('logs in with PKCE at the endpoints of the domain', async () => {
    const { headers } = await visitor.get('/login')
    const authorization = new URL(headers.get('location') ?? '')
    expect(authorization.href.split('?')[0]).toBe(`${domain.url}/oauth2/v1/authorize`)
    const state = authorization.searchParams.get('state') ?? ''
    expect(Object.fromEntries(authorization.searchParams)).toEqual({
      response_type: 'code',
      client_id: 'the-client',
      redirect_uri: 'https://app.example.com/callback',
      scope: 'urn:opc:idm:__myscopes__ offline_access',
      state: expect.stringMatching(/^[\w-]{43}$/),
      code_challenge: expect.stringMatching(/^[\w-]{43}$/),
      code_challenge_method: 'S256',
    })
    const callback = await visitor.get(`/callback?${new URLSearchParams({ code: 'the-code', state })}`)
    expect([callback.status, callback.headers.get('location')]).toEqual([302, '/'])
    expect(domain.refusals).toEqual([])
    expect(domain.requests).toHaveLength(1)
  })

  it('refuses a callback of another login', async () => {
    expect((await visitor.get('/callback?code=the-code&state=another')).status).toBe(400)
    expect(domain.requests).toHaveLength(1)
  })
})

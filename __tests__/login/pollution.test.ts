import { afterAll, afterEach, expect, it } from '@jest/globals'
import { StepUpError } from '../../lib/index.js'
import { NAVIGATION, startLoginSite } from '../helpers/login-site.js'
import { type Pollution, pollute } from '../helpers/pollution.js'

const EVIL = 'https://evil.example/'
/** What is read of metadata, claims, requirements, transactions and credentials, and what would be done with it. */
const POLLUTION: Readonly<Record<string, unknown>> = {
  acr: 'mfa',
  acr_values: 'mfa',
  dpopKey: 'key',
  end_session_endpoint: EVIL,
  keys: {},
  max_age: 0,
  maxAge: 0,
  notes: { evil: true },
  parameters: { client_id: 'evil', redirect_uri: EVIL },
  pushed_authorization_request_endpoint: EVIL,
  require_signed_request_object: true,
}

// openid-client copies metadata with this. A test has that of another realm, whose objects inherit nothing from here.
const { structuredClone } = globalThis
globalThis.structuredClone = (value) =>
  'authorization_endpoint' in Object(value) ? JSON.parse(JSON.stringify(value)) : structuredClone(value)
afterAll(() => {
  globalThis.structuredClone = structuredClone
})

let pollution: Pollution | undefined
const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  pollution?.end()
  for (const close of closing.splice(0)) await close()
})

/** A site whose provider has neither a logout nor pushed requests. */
async function site() {
  const started = await startLoginSite({
    login: { userinfo: true },
    provider: {
      configure: (it) => ({
        ...it,
        features: {
          ...it.features,
          pushedAuthorizationRequests: { enabled: false },
          rpInitiatedLogout: { enabled: false },
        },
      }),
    },
    routes(app) {
      app.get('/secret', () => {
        throw new StepUpError({ acrValues: 'mfa' })
      })
    },
  })
  closing.push(started.close)
  return started
}

it.each(Object.entries(POLLUTION))('Object.prototype.%s is no part of a login', async (name, value) => {
  const { failures, ...at } = await site()

  pollution = pollute([name], value)
  const visitor = await at.loggedIn()
  const { json } = await visitor.get('/orders')
  const weak = await at.open(visitor, '/secret')
  const logout = await visitor.post('/logout', undefined, NAVIGATION)
  pollution.end()
  expect(json).toMatchObject({ user: 'alice' })
  expect([weak.status, failures.map(({ reason }) => reason)]).toEqual([403, ['unmet']])
  expect([logout.status, logout.headers.get('location')]).toEqual([303, `${at.url}/`])
  expect(pollution.reads).toEqual([])
})

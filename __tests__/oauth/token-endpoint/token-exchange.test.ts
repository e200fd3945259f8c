import { inspect } from 'node:util'
import { afterEach, describe, expect, it } from '@jest/globals'
import {
  ConfigurationError,
  clientSecretBasic,
  type ExchangeOptions,
  requireTokens,
  sessionTokens,
} from '../../../lib/index.js'
import { httpAuthorizationServer } from '../../../lib/oauth/http-authorization-server.js'
import { checkExchanges } from '../../../lib/oauth/token-endpoint/token-exchange.js'
import { normalizeNeed } from '../../../lib/tokens/token-need.js'
import { testClock } from '../../helpers/clock.js'
import { startTokenEndpoint } from '../../helpers/fault-server.js'

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

const TYPE = 'urn:ietf:params:oauth:token-type:'
const SUCCESS = {
  access_token: 'ex',
  issued_token_type: `${TYPE}access_token`,
  token_type: 'Bearer',
  expires_in: 60,
}

/** Sends an exchange. Resolves with the parameters that arrived, and with what came of it. */
async function send(exchange: ExchangeOptions, body: object = SUCCESS) {
  const endpoint = await startTokenEndpoint(() => ({ status: 'error' in body ? 400 : 200, body }))
  closers.push(endpoint.close)
  const server = httpAuthorizationServer({
    tokenEndpoint: endpoint.tokenEndpoint,
    clientId: 'web',
    clientAuthentication: clientSecretBasic('hush hush'),
    exchanges: checkExchanges({ billing: exchange }),
    clock: testClock(),
  })
  const request = {
    name: 'billing',
    clientToken: async () => ({ token: 'the client' }),
    secrets: () => [],
    signal: AbortSignal.timeout(5_000),
  }
  const outcome = await server.exchange('the subject', request).catch((error: unknown) => error)
  return { sent: endpoint.requests.map(({ parameters }) => [...parameters]), outcome }
}

describe('exchange(subjectToken, { name })', () => {
  it('sends what the exchange names, and the type of each token (RFC 8693 §2.1)', async () => {
    const { sent, outcome } = await send({
      audience: ['billing', 'ledger'],
      resource: 'https://billing.example.com',
      scope: 'invoices.read',
      requestedTokenType: `${TYPE}jwt`,
      actor: async () => ({ token: 'the actor', tokenType: `${TYPE}jwt` }),
    })
    expect(sent).toEqual([
      [
        ['grant_type', 'urn:ietf:params:oauth:grant-type:token-exchange'],
        ['subject_token', 'the subject'],
        ['subject_token_type', `${TYPE}access_token`],
        ['scope', 'invoices.read'],
        ['resource', 'https://billing.example.com'],
        ['audience', 'billing'],
        ['audience', 'ledger'],
        ['requested_token_type', `${TYPE}jwt`],
        ['actor_token', 'the actor'],
        ['actor_token_type', `${TYPE}jwt`],
      ],
    ])
    expect(outcome).toEqual({
      accessToken: 'ex',
      tokenType: 'Bearer',
      lifetimeMs: 60_000,
      scope: 'invoices.read',
    })
  })

  it('takes an actor in a text for an access token, and asks for it each time', async () => {
    const { sent } = await send({ actor: () => ' the actor\n' })
    expect(sent[0]).toEqual(
      expect.arrayContaining([
        ['actor_token', 'the actor'],
        ['actor_token_type', `${TYPE}access_token`],
      ]),
    )
  })

  it("takes the client's own token for the actor `client`", async () => {
    const { sent } = await send({ actor: 'client' })
    expect(sent[0]).toEqual(
      expect.arrayContaining([
        ['actor_token', 'the client'],
        ['actor_token_type', `${TYPE}access_token`],
      ]),
    )
  })

  it.each<[string, () => never]>([
    [
      'throws',
      () => {
        throw new Error('vault: hush')
      },
    ],
    ['rejects', (() => Promise.reject(new Error('vault: hush'))) as never],
    ['returns nothing', (() => undefined) as never],
    ['returns an empty text', (() => ' ') as never],
    ['returns a type that is no URI', (() => ({ token: 'hush', tokenType: 'jwt' })) as never],
  ])('an actor that %s: nothing is sent', async (_, actor) => {
    const { sent, outcome } = await send({ actor })
    expect(sent).toEqual([])
    expect(outcome).toBeInstanceOf(ConfigurationError)
    expect((outcome as Error).message).toMatch(/^The function `actor` of the exchange `billing` /)
    expect(inspect(outcome, { depth: 20 })).not.toMatch(/hush/)
  })

  it.each([
    ['a refresh token', undefined, 'refresh_token'],
    ['an ID token', undefined, 'id_token'],
    ['a SAML assertion', undefined, 'saml2'],
    ['an ID token in place of an access token', 'access_token', 'id_token'],
    ['a type of its own in place of a JWT', 'jwt', 'own'],
    ['a type that is no text', undefined, 1],
  ])('refuses %s, which is for no API (RFC 8693 §2.2.1)', async (_, requested, issued) => {
    const exchange = requested === undefined ? {} : { requestedTokenType: `${TYPE}${requested}` }
    const type = typeof issued === 'string' ? `${TYPE}${issued}` : issued
    const { outcome } = await send(exchange, {
      ...SUCCESS,
      access_token: 'hush hush',
      issued_token_type: type,
    })
    expect(outcome).toMatchObject({ code: 'ERR_INVALID_TOKEN_RESPONSE' })
    expect((outcome as Error).message).toContain('issued_token_type')
    expect(inspect(outcome, { depth: 20 })).not.toMatch(/hush/)
  })

  it.each([
    ['an access token in place of a JWT', 'jwt', 'access_token'],
    ['a JWT', undefined, 'jwt'],
    ['what was requested', 'id_token', 'id_token'],
    ['a type of its own', undefined, 'own'],
    ['no type', 'access_token', undefined],
  ])('accepts %s', async (_, requested, issued) => {
    const exchange = requested === undefined ? {} : { requestedTokenType: `${TYPE}${requested}` }
    const type = issued === undefined ? {} : { issued_token_type: `${TYPE}${issued}` }
    const { issued_token_type: __, ...success } = SUCCESS
    expect((await send(exchange, { ...success, ...type })).outcome).toMatchObject({ accessToken: 'ex' })
  })

  it('accepts the type of a refresh token that comes besides, as from the first exchange of Keycloak', async () => {
    const keycloak = { ...SUCCESS, issued_token_type: `${TYPE}refresh_token`, refresh_token: 'besides' }
    expect((await send({}, keycloak)).outcome).toEqual({
      accessToken: 'ex',
      tokenType: 'Bearer',
      lifetimeMs: 60_000,
    })
    const one = { ...keycloak, access_token: 'besides' }
    expect((await send({}, one)).outcome).toMatchObject({ code: 'ERR_INVALID_TOKEN_RESPONSE' })
  })

  it('S60 no error shows the subject, the actor or the secret', async () => {
    const body = { error: 'invalid_request', error_description: 'the subject, the actor, hush hush' }
    const { outcome } = await send({ audience: 'billing', actor: () => 'the actor' }, body)
    expect(outcome).toMatchObject({ error: 'invalid_request' })
    expect(inspect(outcome, { depth: 20 })).not.toMatch(/the subject|the actor|hush/)
  })
})

describe('the option exchanges', () => {
  const thrownBy = (exchanges: unknown) => () =>
    sessionTokens({
      issuer: 'https://idp.example.com',
      clientId: 'web',
      clientAuthentication: clientSecretBasic('secret'),
      encryptionKeys: false,
      exchanges: exchanges as never,
    })

  it.each<[unknown, RegExp]>([
    ['billing', /`exchanges` must be an object, e\.g\. exchanges: \{ billing: \{ audience: 'billing' \} \}/],
    [['billing'], /`exchanges` must be an object/],
    [{ billing: 'billing' }, /The exchange `billing` must be an object, e\.g\. \{ audience: 'billing' \}/],
    [
      { billing: { audiance: 'x' } },
      /The exchange `billing` has no option `audiance`\. Did you mean `audience`\?/,
    ],
    [{ billing: { actor_token: 'x' } }, /Did you mean `actor`\? It is a function/],
    [{ billing: { audience: [] } }, /`audience` must be a name or an array of names/],
    [{ billing: { audience: ['a', ''] } }, /`audience` must be a name or an array of names/],
    [{ billing: { resource: 'billing' } }, /`resource` must be an absolute URI without a fragment/],
    [
      { billing: { resource: 'https://a.example#b' } },
      /`resource` must be an absolute URI without a fragment/,
    ],
    [{ billing: { scope: ' ' } }, /`scope` must be a string that is not empty/],
    [
      { billing: { requestedTokenType: 'jwt' } },
      /requestedTokenType: 'urn:ietf:params:oauth:token-type:jwt'/,
    ],
    [{ billing: { requestedTokenType: `${TYPE}refresh_token` } }, /must not be that of a refresh token/],
    [{ billing: { actor: 'token' } }, /`actor` must be 'client', for the client's own token, or a function/],
  ])('%j: the message says what is right', (exchanges, message) => {
    expect(thrownBy(exchanges)).toThrow(ConfigurationError)
    expect(thrownBy(exchanges)).toThrow(message)
  })

  it('S103 a need and a guard with another selector beside `exchange` say where that belongs', () => {
    const message =
      /Put it into the option `exchanges` of sessionTokens\(\): exchanges: \{ 'billing': \{ scope \} \}/
    expect(() => normalizeNeed({ exchange: 'billing', scope: 'a' })).toThrow(message)
    expect(() => requireTokens({ exchange: 'billing', scope: 'a' })).toThrow(message)
    expect(() => requireTokens({ exchange: 'billing', user: 'none' })).toThrow(/`exchange` has no meaning/)
    expect(normalizeNeed({ exchange: 'billing', minValidityMs: 5 })).toEqual({
      exchange: 'billing',
      minValidityMs: 5,
    })
  })
})

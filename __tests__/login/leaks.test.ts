import { Console } from 'node:console'
import { PassThrough } from 'node:stream'
import { inspect } from 'node:util'
import { afterEach, describe, expect, it, jest } from '@jest/globals'
import type { Request } from 'express'
import { type Configuration, customFetch } from 'openid-client'
import { clientSecretJwt, clientSecretPost } from '../../lib/index.js'
import type { LoginTokens } from '../../lib/login.js'
import type { Browser } from '../helpers/browser.js'
import { LOGIN_CLIENT, type LoginSite, NAVIGATION, startLoginSite } from '../helpers/login-site.js'

let site: LoginSite
/** Everything that left the library: pages, headers, errors, events, sessions, and what was printed. */
let seen: string[]
/** What must not show anywhere. */
let secrets: string[]
/** Responds in place of the provider. */
let provider: (url: URL, body: string, headers: Headers) => Response | undefined
const prints: jest.Spied<() => unknown>[] = []

afterEach(async () => {
  for (const print of prints.splice(0)) print.mockRestore()
  await site.close()
})

async function start(login: object = {}): Promise<void> {
  seen = []
  secrets = [LOGIN_CLIENT.clientSecret]
  provider = () => undefined
  for (const stream of [process.stdout, process.stderr]) {
    prints.push(
      jest.spyOn(stream, 'write').mockImplementation((text: unknown) => {
        seen.push(String(text))
        return true
      }) as never,
    )
  }
  site = await startLoginSite({
    login: {
      userinfo: true,
      onLogin: ({ access_token, id_token, refresh_token }: LoginTokens) => {
        secrets.push(access_token, id_token!, refresh_token!)
      },
      configure(configuration: Configuration) {
        configuration[customFetch] = async (url, { body, headers, method }) => {
          const text = String(body ?? '')
          const sent = new URLSearchParams(text)
          for (const name of ['code', 'code_verifier']) secrets.push(...sent.getAll(name))
          secrets.push(...credentialsIn(text, new Headers(headers)))
          const own = provider(new URL(url), text, new Headers(headers))
          return own ?? fetch(url, { body: (body as string) ?? null, headers, method })
        }
      },
      ...login,
    } as never,
    tokens: { onEvent: (event) => void seen.push(logged(event)) },
    routes: (app) =>
      void app.get('/refresh', (request: Request, response, next) => {
        request.tokens
          .getAccessToken()
          .then(({ token }) => request.tokens.getAccessToken({ rejected: token }))
          .then(({ token }) => void secrets.push(token))
          .then(() => response.json(null), next)
      }),
  })
}

/** The credentials of the client in a request. */
function credentialsIn(body: string, headers: Headers): string[] {
  const sent = new URLSearchParams(body)
  const inForm = ['client_secret', 'client_assertion'].flatMap((name) => sent.getAll(name))
  const inHeaders = ['authorization', 'x-api-key'].map((name) => headers.get(name)?.split(' ').at(-1) ?? '')
  return [...inForm, ...inHeaders].filter(Boolean)
}

/** Everything that a logger could make of a value. */
function logged(value: unknown): string {
  const stream = new PassThrough()
  const logger = new Console(stream)
  logger.log(value)
  logger.log('%s %j', value, value)
  const { stack = '' } = value instanceof Error ? value : {}
  return [stream.read(), inspect(value, { depth: 20 }), JSON.stringify(value), stack, String(value)].join(
    '\n',
  )
}

/** A browser. What it gets from the site is kept. */
function watched(visitor = site.browser()): Browser {
  return {
    ...visitor,
    async get(path, request) {
      const page = await visitor.get(path, request)
      const isOurs = page.url.startsWith(site.url)
      const shown = [page.status, [...page.headers], page.text]
      if (isOurs) seen.push(inspect(shown, { depth: 5, maxStringLength: null }))
      return page
    },
  }
}

/** A login through the provider, until the callback. */
async function callbackOf(visitor: Browser): Promise<URL> {
  const callback = new URL(await site.begin(visitor))
  secrets.push(callback.searchParams.get('code')!)
  return callback
}

/** Where a secret shows: as it is, encoded for a URL, or in Base64. */
function leaks(): string[] {
  seen.push(...[...site.failures, ...site.errors].map(logged), inspect(site.store, { depth: 5 }))
  const text = seen.join('\n')
  const forms = [...new Set(secrets.filter(Boolean))].flatMap((secret) => [
    secret,
    encodeURIComponent(secret),
    new URLSearchParams([['', secret]]).toString().slice(1),
    Buffer.from(secret).toString('base64url').slice(0, -2),
  ])
  return forms.filter((form) => text.includes(form))
}

describe('S60 no code, verifier, token or secret shows', () => {
  it('in a login, its refresh, and its logout', async () => {
    await start()
    const visitor = watched()
    await site.step(visitor, '/orders')
    expect((await site.step(visitor, (await callbackOf(visitor)).href)).status).toBe(303)
    await site.step(visitor, (await callbackOf(visitor)).href)
    for (const path of ['/orders', '/session', '/refresh']) {
      expect([path, (await site.step(visitor, path)).status]).toEqual([path, 200])
    }
    const out = await visitor.post('/logout', undefined, { headers: { accept: 'application/json' } })
    seen.push(inspect([[...out.headers], out.text]))
    expect([out.status, site.failures, site.errors]).toEqual([200, [], []])
    expect(secrets.filter(Boolean).length).toBeGreaterThanOrEqual(10)
    expect(leaks()).toEqual([])
  })

  const json = { 'content-type': 'application/json' }
  it.each<[string, (body: string, headers: Headers) => Response]>([
    [
      'an error that quotes the request',
      (body, headers) => {
        const all = `${headers.get('authorization')} ${body} ${decodeURIComponent(body)}`
        const answer = { error: all, error_description: all, error_uri: all }
        return new Response(JSON.stringify(answer), { status: 400, headers: json })
      },
    ],
    [
      'an error that is the code',
      (body) => {
        const error = new URLSearchParams(body).get('code')
        return new Response(JSON.stringify({ error }), { status: 400, headers: json })
      },
    ],
    [
      'a challenge that quotes the request',
      (body, headers) => {
        const quoted = `Basic error="${headers.get('authorization')}", realm="${body}"`
        return new Response('', { status: 401, headers: { 'www-authenticate': quoted } })
      },
    ],
    ['text that quotes the request', (body) => new Response(body, { status: 200, headers: json })],
    [
      'another token type',
      (body) => {
        const code = new URLSearchParams(body).get('code')
        const answer = { access_token: code, token_type: code, id_token: code }
        return new Response(JSON.stringify(answer), { status: 200, headers: json })
      },
    ],
    [
      'a failure that quotes the request',
      (body) => {
        throw Object.assign(new TypeError(`fetch failed: ${body}`), { cause: new Error(body), request: body })
      },
    ],
  ])('when the token endpoint responds with %s', async (_, respond) => {
    await start()
    const visitor = watched()
    const callback = await callbackOf(visitor)
    provider = ({ pathname }, body, headers) => (pathname === '/token' ? respond(body, headers) : undefined)
    expect((await site.step(visitor, callback.href)).status).toBeGreaterThanOrEqual(400)
    expect([site.failures.length, site.errors.length]).toEqual([1, 0])
    expect(leaks()).toEqual([])
  })

  it('when userinfo quotes the token', async () => {
    await start()
    const visitor = watched()
    const callback = await callbackOf(visitor)
    provider = ({ pathname }, _, headers) => {
      if (pathname !== '/me') return undefined
      const quoted = `Bearer error="invalid_token", error_description="${headers.get('authorization')}"`
      return new Response('', { status: 401, headers: { 'www-authenticate': quoted } })
    }
    expect((await site.step(visitor, callback.href)).status).toBeGreaterThanOrEqual(400)
    expect([site.failures.length, site.errors.length]).toEqual([1, 0])
    expect(leaks()).toEqual([])
  })

  it.each([
    ['Basic', undefined],
    ['the form', clientSecretPost(LOGIN_CLIENT.clientSecret)],
    ['a JWT', clientSecretJwt(LOGIN_CLIENT.clientSecret)],
    [
      'a header of the app',
      () => ({
        headers: { 'x-api-key': 'key-of-the-gateway-0123456789' },
        parameters: { client_id: LOGIN_CLIENT.clientId },
      }),
    ],
  ])('when the pushed request is refused with the credentials of %s and what it was', async (_, method) => {
    await start(method && { clientAuthentication: method })
    provider = ({ pathname }, body, headers) => {
      if (pathname !== '/request') return undefined
      const all = `unknown client ${credentialsIn(body, headers)}. ${body} ${headers.get('authorization')}`
      const answer = { error: 'invalid_client', error_description: all }
      return new Response(JSON.stringify(answer), { status: 400, headers: json })
    }
    expect((await site.step(watched(), '/login')).status).toBe(502)
    expect(site.failures).toMatchObject([{ errorDescription: expect.stringMatching(/^unknown client /) }])
    expect(leaks()).toEqual([])
  })

  it('when a gateway quotes a header of the option http', async () => {
    const key = 'key-of-the-gateway-0123456789'
    await start({ http: { headers: { 'x-api-key': key } } })
    secrets.push(key)
    provider = ({ pathname }) => {
      if (pathname !== '/request') return undefined
      const answer = { error: 'access_denied', error_description: `unknown key ${key}` }
      return new Response(JSON.stringify(answer), { status: 403, headers: json })
    }
    expect((await site.step(watched(), '/login')).status).toBe(403)
    expect(site.failures).toMatchObject([{ errorDescription: expect.stringMatching(/^unknown key /) }])
    expect(leaks()).toEqual([])
  })

  it('when the callback has the code in the place of an error', async () => {
    await start()
    const visitor = watched()
    const callback = await callbackOf(visitor)
    const code = callback.searchParams.get('code')!
    callback.searchParams.set('error', code)
    callback.searchParams.set('error_description', `no ${code}`)
    expect((await site.step(visitor, callback.href)).status).toBe(502)
    expect(leaks()).toEqual([])
  })

  it('when onLogin fails', async () => {
    await start({ onLogin: () => Promise.reject(new Error('the database is down')) })
    const visitor = watched()
    expect((await site.step(visitor, (await callbackOf(visitor)).href)).status).toBe(500)
    expect(site.errors).toMatchObject([{ message: 'the database is down' }])
    expect(leaks()).toEqual([])
    expect((await visitor.get('/', NAVIGATION)).json).toEqual({ loggedIn: false })
  })
})

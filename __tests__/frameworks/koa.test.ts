import { describe, expect, it } from '@jest/globals'
import type { Context } from 'koa'
import { clientSecretBasic, type SessionTokens, type SessionTokensOptions } from '../../lib/index.js'
import { requireTokens, sessionTokens } from '../../lib/koa.js'
import { type KoaSite, type KoaSiteOptions, koaVersions, startKoaSite } from '../helpers/koa-site.js'
import { testSites } from '../helpers/test-sites.js'

const { server, closing } = await testSites()

async function start(options?: KoaSiteOptions): Promise<KoaSite> {
  return closing(await startKoaSite(server, options))
}

function options(more: Partial<SessionTokensOptions> = {}): SessionTokensOptions {
  return {
    tokenEndpoint: 'https://idp.example/token',
    clientId: 'web',
    clientAuthentication: clientSecretBasic('secret'),
    encryptionKeys: false,
    ...more,
  } as SessionTokensOptions
}

describe('sessionTokens(options), Koa', () => {
  it.each([
    ...['state', 'status', 'throw', 'request', 'response', 'sessionOptions', 'set', 'type', 'redirect'],
    ...['body', 'session', 'cookies', 'req', 'res', 'path', 'url', 'method', 'app'],
  ])('refuses the property %s, which is in use', (property) => {
    expect(() => sessionTokens(options({ property }))).toThrow(`\`property\` must not be '${property}'`)
  })

  it('refuses every name that a context has', async () => {
    let ctx: Context | undefined
    const site = await start()
    site.handle('/', (context) => {
      ctx = context
    })
    await site.browser().get('/')
    const names = new Set<string>()
    for (let object: object | null = ctx!; object; object = Object.getPrototypeOf(object)) {
      for (const name of Object.getOwnPropertyNames(object)) names.add(name)
    }
    names.delete('tokens')
    expect(names.size).toBeGreaterThan(60)
    const taken = (property: string) => {
      try {
        sessionTokens(options({ property }))
        return false
      } catch {
        return true
      }
    }
    expect([...names].filter((name) => !taken(name))).toEqual([])
  })

  describe.each(koaVersions)('%s', (_, Koa) => {
    it('tokens that are asked for behind the last handler, when the answer is ready', async () => {
      let late: unknown
      const site = await start({
        Koa,
        before: async (ctx, next) => {
          await next()
          late = await ctx.tokens.getAccessToken().catch(() => undefined)
        },
      })
      const tab = site.browser()
      await site.login(tab)
      site.clock.advance(3_600_000)
      await tab.get('/session')
      expect(late).toMatchObject({ token: (await tab.get('/token')).json.token })
    })
  })
})

describe('the types of Koa', () => {
  it('know ctx.tokens', () => {
    const typed = (ctx: Context): SessionTokens => ctx.tokens
    // @ts-expect-error: it is no string
    const wrong = (ctx: Context): string => ctx.tokens
    expect([typed, wrong]).toHaveLength(2)
  })

  it('take the middleware of this library', () => {
    const [[, Koa]] = koaVersions as [(typeof koaVersions)[0]]
    const app = new Koa<{ user: string }, { extra: number }>()
    app.use(sessionTokens(options()))
    app.use(requireTokens({ loginPath: '/login' }))
    app.use((ctx) => ctx.tokens.hasTokens())
    expect(app.middleware).toHaveLength(3)
  })
})

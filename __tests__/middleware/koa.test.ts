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
  it('rejects every name that a context has', async () => {
    const site = await start()
    let names = new Set<string>()
    const taken: string[] = []
    site.handle('/', async (context) => {
      names = namesIn(context)
      for (const property of names) {
        const message = await messageOf(async () =>
          sessionTokens(options({ property }))(context, async () => {}),
        )
        if (!/^`property` must /.test(message ?? '')) taken.push(property)
      }
    })
    await site.browser().get('/')
    expect([...names]).toEqual(expect.arrayContaining(['state', 'req', 'body', 'session', 'cookies']))
    expect(names.size).toBeGreaterThan(60)
    // The context has the tokens of the site itself there.
    expect(taken).toEqual(['tokens'])
  })

  describe.each(koaVersions)('%s', (_, Koa) => {
    it('tokens that are requested after the last handler, when the response is ready', async () => {
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

  it('accept the middleware of this library', () => {
    const [[, Koa]] = koaVersions as [(typeof koaVersions)[0]]
    const app = new Koa<{ user: string }, { extra: number }>()
    app.use(sessionTokens(options()))
    app.use(requireTokens({ loginPath: '/login' }))
    app.use((ctx) => ctx.tokens.hasTokens())
    expect(app.middleware).toHaveLength(3)
  })
})

function namesIn(context: object): Set<string> {
  const names = new Set<string>()
  for (let object: object | null = context; object; object = Object.getPrototypeOf(object)) {
    for (const name of Object.getOwnPropertyNames(object)) names.add(name)
  }
  return names
}

async function messageOf(deed: () => Promise<unknown>): Promise<string | undefined> {
  return deed().then(
    () => undefined,
    (error: Error) => error.message,
  )
}

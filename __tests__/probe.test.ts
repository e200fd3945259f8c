import { inspect } from 'node:util'
import { afterEach, expect, it } from '@jest/globals'
import { LOGIN_CLIENT, type LoginSite, startLoginSite } from './helpers/login-site.js'

let site: LoginSite
afterEach(() => site.close())
const events: any[] = []
let user = 'alice'
async function start(login: object = {}, more: object = {}) {
  events.length = 0
  site = await startLoginSite({
    login: { authorization: () => ({ scope: 'openid offline_access', prompt: 'consent', login_hint: user }), ...login } as never,
    tokens: { onEvent: (e) => void events.push(e) },
    routes(app) {
      app.get('/inspect', (req, res) => {
        const texts = [inspect(req.tokens, { depth: 20, showHidden: true }), JSON.stringify(req.tokens), inspect(req, { depth: 6, showHidden: true }), JSON.stringify(req.session)]
        let clone = ''
        try { clone = inspect(structuredClone(req.tokens)) } catch (e) { clone = String(e) }
        req.tokens.getAccessToken().then(({ token }) => res.json({ leak: texts.map((t) => t.includes(token)), clone }))
      })
      app.get('/tok', (req, res, next) => { req.tokens.getAccessToken().then((t) => res.json(t), next) })
    },
    ...more,
  })
}

it('another user in the same session', async () => {
  user = 'alice'
  await start()
  const b = await site.loggedIn()
  const id1 = b.cookie('connect.sid')
  user = 'bob'
  const c = site.browser(); c.setCookie('connect.sid', b.cookie('connect.sid')!); const cb = await site.begin(c)
  await site.step(c, cb)
  console.log((await c.get('/session')).text, events.map((e) => [e.type, e.reason]), site.provider.revocations.length, id1 !== c.cookie('connect.sid'))
  console.log((await c.get('/inspect')).text)
})
it('another user, onLogin throws / refuses', async () => {
  for (const fail of ['throws', 'refuses']) {
    user = 'alice'
    await start({ onLogin: () => { if (user === 'alice') return true; if (fail === 'throws') throw new Error('x'); return false } })
    const b = await site.loggedIn()
    const old = b.clone()
    user = 'bob'
    const c = site.browser(); c.setCookie('connect.sid', b.cookie('connect.sid')!); const cb = await site.begin(c)
    const page = await site.step(c, cb)
    console.log(fail, page.status, (await c.get('/session')).status, (await old.get('/session')).status, events.map((e) => [e.type, e.reason]), site.provider.revocations.length)
    if (fail === 'throws') await site.close()
  }
})

import { describeSessionLayer } from '../contract/session-layer.js'
import { describeStoredSessionLayer } from '../contract/stored-session-layer.js'
import { koaVersions } from '../helpers/koa-site.js'
import { expressMemoryLayer, koaCookieLayer, koaStoreLayer } from '../helpers/session-layers.js'

describeStoredSessionLayer(expressMemoryLayer)
// S29
for (const [name, Koa] of koaVersions) {
  describeStoredSessionLayer(koaStoreLayer(`koa-session with a store, on ${name}`, { Koa }))
  describeSessionLayer(koaCookieLayer(`koa-session in cookies, on ${name}`, { Koa }))
}
describeStoredSessionLayer(
  koaStoreLayer('koa-session with a store that hands out what it holds', { references: true }),
)

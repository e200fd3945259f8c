import { describeStoredSessionLayer } from '../contract/session-layer.js'
import { koaVersions } from '../helpers/koa-site.js'
import { expressMemoryLayer, koaStoreLayer } from '../helpers/session-layers.js'

describeStoredSessionLayer(expressMemoryLayer)
// S29
for (const [name, Koa] of koaVersions) {
  describeStoredSessionLayer(koaStoreLayer(`koa-session with a store, on ${name}`, { Koa }))
}

export { type BearerProxy, bearerProxy } from './outbound/proxy/bearer-proxy.js'
export type { BearerProxyOptions, PathRewrite, ProxyLogger } from './outbound/proxy/options.js'
export { type App, type UpgradeOptions, upgradesThrough } from './outbound/proxy/upgrades.js'

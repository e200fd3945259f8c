export { type BearerProxy, bearerProxy } from './proxy/bearer-proxy.js'
export type { BearerProxyOptions, PathRewrite, ProxyLogger } from './proxy/options.js'
export { type App, type UpgradeOptions, upgradesThrough } from './proxy/upgrades.js'

export { type BearerProxy, bearerProxy } from './outbound/proxy.js'
export type { BearerProxyOptions, PathRewrite, ProxyLogger } from './outbound/proxy-options.js'

import { describeProxy } from '../contract/proxy.js'
import { proxyFrameworks } from '../helpers/proxy-site.js'

for (const framework of proxyFrameworks) describeProxy(framework)

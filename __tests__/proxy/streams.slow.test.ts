import { describeProxyStreams } from '../contract/proxy-streams.js'
import { proxyFrameworks } from '../helpers/proxy-site.js'

for (const framework of proxyFrameworks) describeProxyStreams(framework)

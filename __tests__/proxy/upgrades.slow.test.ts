import { describeProxyUpgrades } from '../contract/proxy-upgrades.js'
import { proxyFrameworks } from '../helpers/proxy-site.js'

for (const framework of proxyFrameworks) describeProxyUpgrades(framework)

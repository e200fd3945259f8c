import { describeCrossOrigin } from '../contract/cross-origin.js'
import { refusingProxies } from '../helpers/cross-origin-site.js'

for (const driver of refusingProxies) describeCrossOrigin('bearerProxy(options)', driver)

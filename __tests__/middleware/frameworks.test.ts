import { describeFramework } from '../contract/framework.js'
import { frameworks } from '../helpers/frameworks.js'

for (const framework of frameworks) describeFramework(framework)

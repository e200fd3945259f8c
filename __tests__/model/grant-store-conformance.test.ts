import { memoryGrantStore } from '../../lib/grants/memory.js'
import { describeConformance } from './grant-store-conformance.js'

describeConformance('in memory', async () => ({ store: memoryGrantStore(), close: async () => {} }))

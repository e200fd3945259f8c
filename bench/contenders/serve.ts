/** The process of one contender. */
import { serve } from '../harness/servers.js'
import { listenerOf } from './contenders.js'

await serve(await listenerOf(JSON.parse(process.argv[2]!)))

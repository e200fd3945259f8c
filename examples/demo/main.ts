import { startDemo } from './demo.js'
import { ACCESS_TOKEN_SECONDS, PORT, type Start, startAskedFor, USAGE } from './flags.js'
import { tour } from './tour.js'

const start = asked()
if (start === 'help') console.log(USAGE)
else if (start === 'cluster') await import('../cluster/main.js')
else if (start === 'gateway') await import('../bff-gateway/main.js')
else if (process.argv.includes('--tour')) process.exitCode = (await tour()) ? 0 : 1
else await serve()

function asked(): Start {
  try {
    return startAskedFor(process.argv.slice(2))
  } catch (error) {
    console.error((error as Error).message)
    process.exit(1)
  }
}

async function serve(): Promise<void> {
  const demo = await startDemo({ port: PORT, accessTokenSeconds: ACCESS_TOKEN_SECONDS, latencyMs: 250 })
  console.log(`The demo is at ${demo.url} (Ctrl-C stops it).`)
  let stopping = false
  const stop = () => {
    // A terminal's Ctrl-C arrives twice when npm passes it on.
    if (!stopping) void demo.close()
    stopping = true
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, stop)
}

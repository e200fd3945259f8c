import { startDemo } from './demo.js'
import { tour } from './tour.js'

if (process.argv.includes('--cluster')) await import('../cluster/main.js')
else if (process.argv.includes('--tour')) process.exitCode = (await tour()) ? 0 : 1
else await serve()

async function serve(): Promise<void> {
  const demo = await startDemo({ port: 3000, accessTokenSeconds: 5 })
  console.log(`The demo is at ${demo.url} (Ctrl-C stops it).`)
  let stopping = false
  const stop = () => {
    // A terminal's Ctrl-C arrives twice when npm passes it on.
    if (!stopping) void demo.close()
    stopping = true
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, stop)
}

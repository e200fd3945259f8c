/*
 * A gateway for a single-page app that never sees a token (a backend for a frontend), with three policies for its routes:
 *
 *   npm run build && npx tsx examples/bff-gateway/main.ts      or   npm start -- --gateway
 *
 * Copy gateway.ts and session-cookie.ts. This file starts an authorization server and two APIs for them. Access
 * tokens live for 10 seconds, and the requests to the authorization server are printed.
 */
import { PORT } from '../demo/flags.js'
import { start } from './start.js'

const { url, timeline, close } = await start({
  port: PORT,
  accessTokenSeconds: 10,
  newsEveryMs: 1_000,
  freshLoginSeconds: 20,
})
console.log(`The gateway is at ${url} (Ctrl-C stops it).`)
timeline.follow((row) => {
  if (row.kind === 'token') console.log(`authorization server: ${row.request} → ${row.status}`)
})

let stopping = false
const stop = () => {
  // A terminal's Ctrl-C arrives twice when npm passes it on.
  if (!stopping) void close()
  stopping = true
}
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, stop)

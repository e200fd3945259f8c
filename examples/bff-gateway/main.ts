/*
 * A gateway for a single-page app that never sees a token (a backend for a frontend), with three policies for its routes:
 *
 *   npm run build && npx tsx examples/bff-gateway/main.ts      or   npm start -- --gateway
 *
 * gateway.ts is what to copy, with login.ts and session-cookie.ts. The authorization server and the two APIs
 * behind it are brought along. Access tokens live for 10 seconds; what the authorization server is asked is printed.
 */
import { start } from './start.js'

const { url, timeline, close } = await start({
  port: 3000,
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

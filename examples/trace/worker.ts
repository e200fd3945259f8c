/** One process of the app. Its spans go to the process that has started it; an exporter of yours would send them to a collector. */
import { context, propagation, SpanKind, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { hrTimeToMilliseconds, W3CTraceContextPropagator } from '@opentelemetry/core'
import { BasicTracerProvider, type ReadableSpan, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { RedisStore } from 'connect-redis'
import express, { type RequestHandler } from 'express'
import session from 'express-session'
import { createClient } from 'redis'
import { publicClient, sessionTokens } from 'session-token-manager'
import { instrument } from 'session-token-manager/opentelemetry'
import { redisGrantStore } from 'session-token-manager/redis'
import { listen } from '../demo/server.js'

const { name, prefix, redis, tokenEndpoint } = JSON.parse(process.env.SETTINGS ?? '{}')

// What an SDK does when it is started.
const exporter = {
  export(spans: ReadableSpan[], done: (result: { code: number }) => void) {
    for (const span of spans) process.send?.(told(span))
    done({ code: 0 })
  },
  shutdown: async () => {},
}
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
propagation.setGlobalPropagator(new W3CTraceContextPropagator())
const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
trace.setGlobalTracerProvider(provider)

const stopInstruments = instrument()

const client = createClient({ ...redis })
client.on('error', (error) => console.error(`${name}: Redis: ${error.message}`))
await client.connect()
const grants = redisGrantStore(client, { prefix: `${prefix}grants:` })
const tokens = sessionTokens({
  tokenEndpoint,
  clientId: 'web',
  clientAuthentication: publicClient(),
  encryptionKeys: false, // the tokens of this example are none
  grants,
})

const app = express()
app.use(inSpan)
app.use(
  session({
    store: new RedisStore({ client, prefix: `${prefix}sessions:`, ttl: 60 }),
    secret: 'of the example',
    resave: false,
    saveUninitialized: false,
  }),
)
app.use(tokens)
app.post('/login', async (req, res) => {
  const expires_at = Math.floor(Date.now() / 1_000) - 1
  await req.tokens.set({ access_token: 'access-token-1', refresh_token: 'refresh-token-1', expires_at })
  res.end()
})
app.get('/orders', async (req, res) => {
  await req.tokens.getAccessToken()
  res.end()
})

const server = await listen(0)
server.use(app)
process.send?.(server.url)
process.once('message', async () => {
  await server.close()
  await tokens.close()
  await grants.close()
  await client.close()
  stopInstruments()
  await provider.shutdown()
  process.disconnect()
})

/** A span for each request, as an instrumentation of HTTP makes it. */
function inSpan(...[req, res, next]: Parameters<RequestHandler>): void {
  const parent = propagation.extract(context.active(), req.headers)
  const span = trace
    .getTracer('app')
    .startSpan(`${req.method} ${req.path}`, { kind: SpanKind.SERVER }, parent)
  res.on('close', () => span.end())
  context.with(trace.setSpan(parent, span), next)
}

function told(span: ReadableSpan) {
  const { attributes, endTime, events, name: spanName, parentSpanContext, startTime } = span
  const { spanId, traceId } = span.spanContext()
  return {
    ...{ process: name, name: spanName, traceId, spanId, attributes },
    ...(parentSpanContext && { parentId: parentSpanContext.spanId }),
    ...{ start: hrTimeToMilliseconds(startTime), end: hrTimeToMilliseconds(endTime) },
    events: events.map((event) => event.name),
  }
}

/**
 * What `bearerProxy()` costs a request, as CPU time of the proxy's process with kept connections, and as ratios within one
 * run: the least that a proxy does (`http.request()` and two pipes) against the proxy, bare and in an app with sessions.
 * Run it with `npm run build && npx tsx bench/proxy.ts`: it takes the built package, since
 * what tsx makes of TypeScript names each function anew.
 *
 * The contenders take turns in rounds, so that whatever else the machine does meets all of them; the median counts.
 */
import { type ChildProcess, fork } from 'node:child_process'
import {
  Agent,
  createServer,
  get,
  type IncomingMessage,
  type RequestListener,
  request as requestOf,
} from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import express from 'express'
import session from 'express-session'
import { publicClient, requireTokens, sessionTokens } from 'session-token-manager'
import { bearerProxy } from 'session-token-manager/proxy'

const CONTENDERS = [
  'pipe',
  'bearerProxy()',
  'pipe, express-session',
  'bearerProxy(), sessionTokens()',
] as const
const ROUNDS = Number(process.env.ROUNDS ?? 15)
const REQUESTS = 3000
const PARALLEL = 16
const RESPONSE = JSON.stringify({ orders: Array.from({ length: 10 }, (_, id) => ({ id, state: 'open' })) })
const LOGIN = { access_token: 'a'.repeat(900), refresh_token: 'r'.repeat(64), expires_in: 3600 }
/** About what a browser sends. */
const HEADERS = {
  accept: 'application/json, text/plain, */*',
  'accept-encoding': 'gzip, deflate, br, zstd',
  'accept-language': 'en-US,en;q=0.9',
  'sec-ch-ua': '"Chromium";v="140", "Not=A?Brand";v="24"',
  'sec-ch-ua-mobile': '?0',
  'sec-ch-ua-platform': '"Linux"',
  'sec-fetch-dest': 'empty',
  'sec-fetch-mode': 'cors',
  'sec-fetch-site': 'same-origin',
  referer: 'https://app.example.com/orders',
  'user-agent':
    'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36',
}

const [, , role, target = ''] = process.argv
if (role === undefined) await compare()
else await serve(role === 'api' ? respond : listener(role, target))

async function compare(): Promise<void> {
  const api = await start('api')
  const contenders = []
  for (const name of CONTENDERS) {
    const site = await start(name, `http://127.0.0.1:${api.port}`)
    const login = await ask(site, '/login')
    const cookie = login.headers['set-cookie']?.[0]?.split(';')[0]
    contenders.push({
      name,
      site: { ...site, headers: { ...HEADERS, ...(cookie && { cookie }) } },
      us: [] as number[],
    })
  }
  for (let round = -3; round < ROUNDS; round++) {
    for (const { site, us } of contenders) {
      await message(site.child, 'start')
      let left = REQUESTS
      const worker = async () => {
        while (left-- > 0) await ask(site, '/api/orders?open=1')
      }
      await Promise.all(Array.from({ length: PARALLEL }, worker))
      const spent = await message(site.child, 'stop')
      if (round >= 0) us.push(spent / REQUESTS)
    }
  }
  const base = median(contenders[0]!.us)
  for (const { name, us, site } of contenders) {
    console.log(
      `${name.padEnd(32)} ${median(us).toFixed(1).padStart(7)} µs  ${(median(us) / base).toFixed(3)} ×`,
    )
    site.child.disconnect()
    site.agent.destroy()
  }
  api.child.disconnect()
  api.agent.destroy()
}

interface Site {
  readonly child: ChildProcess
  readonly port: number
  readonly agent: Agent
  readonly headers: Record<string, string>
}

async function start(...args: string[]): Promise<Site> {
  const child = fork(fileURLToPath(import.meta.url), args)
  const agent = new Agent({ keepAlive: true, maxSockets: PARALLEL })
  return { child, port: await message(child), agent, headers: {} }
}

function message(child: ChildProcess, text?: string): Promise<number> {
  return new Promise((resolve) => {
    child.once('message', resolve)
    if (text !== undefined) child.send(text)
  })
}

function ask({ port, agent, headers }: Site, path: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    get({ port, path, agent, headers, host: '127.0.0.1' }, (response) => {
      response.resume().on('end', () => resolve(response))
      if (response.statusCode !== 200) reject(new Error(`status ${response.statusCode}`))
    }).on('error', reject)
  })
}

/** Tells its CPU time from each `start` to the next `stop`. */
async function serve(listener: RequestListener): Promise<void> {
  const server = createServer(listener)
  let before: NodeJS.CpuUsage | undefined
  process.on('message', (text) => {
    const { user, system } = process.cpuUsage(text === 'stop' ? before : undefined)
    before = { user, system }
    process.send?.(user + system)
  })
  process.on('disconnect', () => process.exit())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  process.send?.((server.address() as AddressInfo).port)
}

function respond(_request: IncomingMessage, response: Parameters<RequestListener>[1]): void {
  const headers = {
    'content-type': 'application/json',
    'x-request-id': '1',
    etag: '"a"',
    'cache-control': 'no-cache',
  }
  response.writeHead(200, { ...headers, 'content-length': RESPONSE.length }).end(RESPONSE)
}

function listener(contender: string, target: string): RequestListener {
  const agent = new Agent({ keepAlive: true })
  if (contender === 'pipe') return pipe(target, agent)
  if (contender === 'bearerProxy()') return bare(target, agent)
  const app = express()
  app.use(session({ secret: 'bench', resave: false, saveUninitialized: false }))
  if (contender === 'pipe, express-session') {
    app.get('/login', (request, response) => {
      Object.assign(request.session, { data: JSON.stringify(LOGIN) })
      response.end()
    })
    app.use('/api', pipe(target, agent))
    return app
  }
  app.use(
    sessionTokens({
      tokenEndpoint: 'http://127.0.0.1:9/',
      clientId: 'bench',
      clientAuthentication: publicClient(),
      encryptionKeys: false,
    }),
  )
  app.get('/login', async (request, response) => {
    await request.tokens.set(LOGIN)
    response.end()
  })
  app.use('/api', requireTokens(), bearerProxy({ target, agent }))
  return app
}

function pipe(target: string, agent: Agent): RequestListener {
  const { hostname, port } = new URL(target)
  return (request, response) => {
    if (request.url === '/login') {
      response.end()
      return
    }
    const { method, url: path, headers } = request
    const sent = requestOf({ hostname, port, path, method, headers, agent }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(response)
    })
    sent.on('error', () => response.destroy())
    request.pipe(sent)
  }
}

/** With a token that is known, in no framework. */
function bare(target: string, agent: Agent): RequestListener {
  const token = { token: LOGIN.access_token, tokenType: 'Bearer', expiresAt: Infinity }
  const tokens = { tokenToSend: async () => token }
  const proxy = bearerProxy({ target, agent })
  return (request, response) => {
    if (request.url === '/login') response.end()
    else proxy(Object.assign(request, { tokens }), response, (error) => response.destroy(error as Error))
  }
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!
}

/**
 * What the middleware costs a request, as ratios within one run: the same app bare, with `sessionTokens()` mounted, and
 * with a valid token asked for. Run it with `npx tsx bench/hot-path.ts`.
 *
 * The apps take turns in short rounds, so that whatever else the machine does meets all of them; the median counts.
 */
import { Agent, createServer, get, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import express, { type RequestHandler } from 'express'
import session from 'express-session'
import { publicClient, sessionTokens } from '../lib/index.js'

const ROUNDS = 40
const REQUESTS = 500
const PARALLEL = 16

const tokens = sessionTokens({
  tokenEndpoint: 'http://127.0.0.1:9/token',
  clientId: 'bench',
  clientAuthentication: publicClient(),
  encryptionKeys: false,
})

const contenders = {
  'express-session alone': await site([], (_request, response) => response.end('ok')),
  'sessionTokens() mounted': await site([tokens], (_request, response) => response.end('ok')),
  'and a valid token asked for': await site([tokens], async (request, response) => {
    await request.tokens.getAccessToken()
    response.end('ok')
  }),
}

const times: Record<string, number[]> = {}
for (let round = -5; round < ROUNDS; round++) {
  for (const [name, contender] of Object.entries(contenders)) {
    const startedAt = performance.now()
    await contender.run()
    if (round >= 0) times[name] = [...(times[name] ?? []), performance.now() - startedAt]
  }
}
const [base] = Object.values(times).map(median)
for (const [name, values] of Object.entries(times)) {
  const perRequest = (median(values) * 1000) / REQUESTS
  console.log(
    `${name.padEnd(30)} ${perRequest.toFixed(1).padStart(7)} µs  ${(median(values) / base!).toFixed(3)} ×`,
  )
}
for (const contender of Object.values(contenders)) contender.close()

async function site(middleware: RequestHandler[], handler: RequestHandler) {
  const app = express()
  app.use(session({ secret: 'bench', resave: false, saveUninitialized: false }))
  app.get('/login', ...middleware, async (request, response) => {
    const answer = { access_token: 'a'.repeat(900), refresh_token: 'r'.repeat(64), expires_in: 3600 }
    if (middleware.length > 0) await request.tokens.set(answer)
    else Object.assign(request.session, { data: JSON.stringify(answer) })
    response.end('ok')
  })
  app.get('/', ...middleware, handler)
  const server = createServer(app)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const agent = new Agent({ keepAlive: true, maxSockets: PARALLEL })
  const cookie = await request(server, agent, '/login', '')
  return {
    run: async () => {
      let left = REQUESTS
      const worker = async () => {
        for (; left > 0; left--) await request(server, agent, '/', cookie)
      }
      await Promise.all(Array.from({ length: PARALLEL }, worker))
    },
    close: () => {
      agent.destroy()
      server.close()
    },
  }
}

function request(server: Server, agent: Agent, path: string, cookie: string): Promise<string> {
  const { port } = server.address() as AddressInfo
  return new Promise((resolve, reject) => {
    get({ port, path, agent, headers: { cookie } }, (response) => {
      response.resume().on('end', () => resolve(response.headers['set-cookie']?.[0]?.split(';')[0] ?? ''))
      if (response.statusCode !== 200) reject(new Error(`status ${response.statusCode}`))
    }).on('error', reject)
  })
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!
}

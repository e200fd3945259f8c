import { fork } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { type Browser, browser } from './browser.js'
import { dieTogether, gone } from './child-process.js'
import { json, wireServer } from './wire-server.js'

/** How the token endpoint refuses the refreshes of a user. */
type Refusal = 'invalid_grant' | 'temporarily_unavailable'

/** A process whose memory a test reads, and the authorization server that it gets its tokens from. */
export interface MemoryReader {
  /** A browser of a visitor at one of the sites of the process, see `memory-process.ts`. */
  visitor(site: string): Visitor
  /** Has the refreshes of a visitor's tokens refused. */
  refuse(visitor: Visitor, refusal: Refusal): void
  /** Which tokens of each visitor are in the memory of the process, after a garbage collection. */
  read(visitors: Record<string, Visitor>): Promise<Record<string, string[]>>
  close(): Promise<void>
}

export interface Visitor {
  readonly user: string
  readonly browser: Browser
  /** Does something at the site. Rejects unless it has the expected status. */
  does(deed: string, status?: number): Promise<void>
  /** Another browser of the same visitor, with the cookies of this moment. */
  clone(): Visitor
  /** Another user in the same browser. */
  successor(): Visitor
}

export async function startMemoryReader(): Promise<MemoryReader> {
  /** By user, in the order in which they were issued: what each is, and the token. */
  const issued = new Map<string, [name: string, token: string][]>()
  const refusals = new Map<string, Refusal>()
  let serial = 0
  const issue = (user: string, kind: string) => {
    const token = `${kind}${serial++}${randomBytes(24).toString('hex')}`
    issued.set(user, [...(issued.get(user) ?? []), [`${kind} ${issued.get(user)?.length ?? 0}`, token]])
    return token
  }
  const userOf = (token: string) =>
    [...issued].find(([, tokens]) => tokens.some(([, other]) => other === token))?.[0]
  const server = await wireServer(({ body, path }, response) => {
    if (path !== '/token') return json(response, {})
    const form = new URLSearchParams(body)
    const user = form.get('username') ?? userOf(form.get('refresh_token') ?? '') ?? ''
    const refusal = refusals.get(user)
    if (refusal) return json(response, { error: refusal }, refusal === 'invalid_grant' ? 400 : 503)
    const payload = { iss: 'https://idp.example', sub: user, aud: 'web', iat: Math.floor(Date.now() / 1000) }
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
    return json(response, {
      access_token: issue(user, 'access'),
      refresh_token: issue(user, 'refresh'),
      token_type: 'Bearer',
      expires_in: 3600,
      id_token: `${part({ alg: 'RS256' })}.${part({ ...payload, exp: payload.iat + 3600 })}.${issue(user, 'id')}`,
    })
  })
  const child = fork(fileURLToPath(new URL('memory-process.ts', import.meta.url)), {
    // A copy in a session is longer than what a snapshot shows of a text by default.
    execArgv: ['--import', 'tsx', '--expose-gc', '--heap-snapshot-string-limit=1000000'],
    env: { ...process.env, MEMORY_PROCESS: JSON.stringify({ serverUrl: server.url }) },
  })
  dieTogether(child)
  const [port] = (await once(child, 'message')) as [number]
  const url = `http://127.0.0.1:${port}`

  const visitorWith = (site: string, user: string, tab: Browser): Visitor => ({
    user,
    browser: tab,
    async does(deed, status = 200) {
      const response = await tab.post(`/${site}/${deed}?user=${user}&site=${site}`)
      if (response.status !== status) {
        throw new Error(`${site} ${deed}: ${response.status} instead of ${status}: ${response.text}`)
      }
    },
    clone: () => visitorWith(site, user, tab.clone()),
    successor: () => visitorWith(site, `user-${serial++}`, tab),
  })
  return {
    visitor: (site) => visitorWith(site, `user-${serial++}`, browser(url)),
    refuse: ({ user }, refusal) => void refusals.set(user, refusal),
    async read(visitors) {
      const heap = await (await fetch(`${url}/heap`)).text()
      const held = ({ user }: Visitor) =>
        (issued.get(user) ?? []).flatMap(([name, token]) => (heap.includes(token) ? [name] : []))
      return Object.fromEntries(Object.entries(visitors).map(([name, visitor]) => [name, held(visitor)]))
    },
    async close() {
      child.kill('SIGKILL')
      await gone(child)
      await server.close()
    },
  }
}

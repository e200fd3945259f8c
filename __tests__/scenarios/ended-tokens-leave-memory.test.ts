import { afterAll, beforeAll, expect, it } from '@jest/globals'
import { type MemoryReader, startMemoryReader, type Visitor } from '../helpers/memory-reader.js'

let memory: MemoryReader

beforeAll(async () => {
  memory = await startMemoryReader()
}, 30_000)

afterAll(() => memory.close())

/** A visitor who has logged in, and whose token was refreshed and sent to an API. */
async function someone(site: string): Promise<Visitor> {
  const visitor = memory.visitor(site)
  await visitor.does('login')
  await visitor.does('refresh')
  await visitor.does('use')
  await visitor.does('proxied')
  return visitor
}

/** How grants end at every site. */
const ends: Record<string, (visitor: Visitor) => Promise<void>> = {
  'by revoke()': (visitor) => visitor.does('logout'),
  'by clear()': (visitor) => visitor.does('clear'),
  async 'by a logout after a refresh that failed'(visitor) {
    memory.refuse(visitor, 'temporarily_unavailable')
    await visitor.does('refresh', 503)
    // The refresh token may have been spent, so it is not revoked. Here the user is logged out.
    await visitor.does('logout', 503)
  },
  async 'by invalid_grant'(visitor) {
    memory.refuse(visitor, 'invalid_grant')
    await visitor.does('refresh', 401)
  },
  'by another login': (visitor) => visitor.successor().does('login'),
}

/** At the sites whose session comes from the browser. */
const cookieEnds: typeof ends = {
  async 'by revoke(), and the browser sends the copy again'(visitor) {
    const stale = visitor.clone()
    await visitor.does('logout')
    await stale.does('refresh', 401)
  },
}

/** At the sites with a grant store that processes share. */
const sharedEnds: typeof ends = {
  async 'by another process'(visitor) {
    await visitor.does('elsewhere')
    await visitor.does('refresh', 401)
  },
}

const sites: Record<string, typeof ends> = {
  plain: ends,
  sealed: ends,
  ambient: ends,
  cookie: { ...ends, ...cookieEnds },
  koa: { ...ends, ...cookieEnds },
  shared: { ...ends, ...sharedEnds },
  store: { ...ends, ...sharedEnds },
}

it('of a grant that has ended no token stays in memory, wherever the session is and however it ended', async () => {
  const ended: Record<string, Visitor> = {}
  for (const [site, itsEnds] of Object.entries(sites)) {
    for (const [how, end] of Object.entries(itsEnds)) {
      const visitor = await someone(site)
      await end(visitor)
      ended[`${site}: ${how}`] = visitor
    }
  }
  const living = await someone('sealed')
  // Nothing is stored after them that could take the place of something.
  const last = await Promise.all(Array.from({ length: 24 }, () => someone('plain')))
  for (const [index, visitor] of last.entries()) {
    await visitor.does('logout')
    ended[`one of many: ${index}`] = visitor
  }
  const held = await memory.read({ ...ended, living })
  // The newest access, refresh and ID token: what is in memory is found there.
  expect(held.living).toEqual(expect.arrayContaining(['access 3', 'refresh 4', 'id 5']))
  expect(Object.entries(held).filter(([name, tokens]) => name !== 'living' && tokens.length > 0)).toEqual([])
}, 60_000)

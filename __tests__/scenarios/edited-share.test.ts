import { describe, expect, it } from '@jest/globals'
import type { Request } from 'express'
import type { GrantStore, SessionTokensOptions } from '../../lib/index.js'
import { isShareOf, newShare } from '../../lib/tokens/grant-proof.js'
import { recordingGrants, type Site } from '../helpers/site.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start } = await testSites()

const ok = { status: 200 }
const loggedOut = { status: 401, json: { code: 'ERR_NO_TOKENS' } }

/** What the user makes of the cookie from before the logout. */
const edits: [string, (copy: Record<string, unknown>) => object][] = [
  ['with another share', (copy) => ({ ...copy, share: 'mine' })],
  ['with the share of another grant', (copy) => ({ ...copy, share: newShare('mine') })],
  ['without a share', ({ share: _, ...copy }) => copy],
  [
    'that is no reference any more',
    ({ key, ...copy }) => ({
      ...copy,
      proof: key,
      revision: 1,
      share: 'mine',
      accessTokens: [],
      refreshToken: 'mine',
    }),
  ],
]

/** Processes whose sessions are in the browser, in the clear: the text is in a header. */
async function processes(count: number, grantsOf: (process: number) => GrantStore) {
  const texts = new Map<string, string>()
  const session = ({ headers }: Request) => {
    const name = String(headers['x-session'])
    return {
      read: () => texts.get(name),
      write: (text: string) => void texts.set(name, text),
      clear: () => void texts.delete(name),
    }
  }
  const sites: Site[] = []
  for (let n = 0; n < count; n++) {
    const tokens = { grants: grantsOf(n), keep: 'store', session } as unknown as Partial<SessionTokensOptions>
    const site = await start({ tokens })
    site.handle('/clear', (request) => request.tokens.clear())
    sites.push(site)
  }
  const login = await server.login('alice')
  const at = (site: Site, name: string) => {
    const tab = site.browser()
    const headers = { headers: { 'x-session': name } }
    return {
      token: () => tab.get('/token', headers),
      clear: () => tab.get('/clear', headers),
      login: () => tab.post('/login', login, headers),
    }
  }
  const expire = () => {
    for (const { clock } of sites) clock.advance(HOUR_MS)
  }
  return { sites, texts, at, expire }
}

describe("S19 keep: 'store' in the browser, not sealed: clear() while the grant lives on in another session", () => {
  it.each(edits)('S19 an edited reference %s gets no tokens', async (_, edit) => {
    const grants = recordingGrants()
    const { sites, texts, at, expire } = await processes(3, () => grants)
    const [one, other, third] = sites as [Site, Site, Site]
    expect(await at(one, 'a').login()).toMatchObject(ok)
    expect(await at(other, 'b').login()).toMatchObject(ok)
    const copy = texts.get('a')!
    expect(await at(one, 'a').clear()).toMatchObject(ok)
    for (const text of [copy, JSON.stringify(edit(JSON.parse(copy)))]) {
      // The third process does not know the grant at first, and the others may have to refresh.
      for (const site of [third, one, other]) {
        texts.set('a', text)
        expect(await at(site, 'a').token()).toMatchObject(loggedOut)
        expire()
        texts.set('a', text)
        expect(await at(site, 'a').token()).toMatchObject(loggedOut)
      }
    }
    for (const site of sites) expect(await at(site, 'b').token()).toMatchObject(ok)
  })

  it('S19 the record lists too few sessions, since the store went back to an earlier state: no session is logged out', async () => {
    const earlier = recordingGrants()
    const newer = recordingGrants()
    let commits = 0
    const { sites, at, expire } = await processes(2, (process) => {
      if (process === 1) return earlier
      const commit: GrantStore['commit'] = async (...request) => {
        if (commits++ === 0) await earlier.commit(...request)
        return newer.commit(...request)
      }
      return { ...newer, commit }
    })
    const [one, other] = sites as [Site, Site]
    for (const name of ['a', 'b', 'c']) expect(await at(one, name).login()).toMatchObject(ok)
    expire()
    for (const name of ['c', 'b', 'a']) expect(await at(other, name).token()).toMatchObject(ok)
  })
})

it('a share belongs to one grant', () => {
  const share = newShare('key')
  expect(isShareOf('key', share)).toBe(true)
  expect(isShareOf('another key', share)).toBe(false)
  expect(isShareOf('key', newShare('key'))).toBe(true)
  for (const edited of ['', 'x', share.slice(0, -1), `${share}x`, `x${share.slice(1)}`]) {
    expect(isShareOf('key', edited)).toBe(edited === share)
  }
})

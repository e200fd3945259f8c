import { randomBytes } from 'node:crypto'
import { describe, expect } from '@jest/globals'
import fc from 'fast-check'
import type { Browser } from '../helpers/browser.js'
import { scenarioTests } from './layer-matrix.js'
import { layerSites, loggedOut, ok } from './layer-sites.js'
import type { LayerSite, SessionLayerDriver, Sessions } from './session-layer-driver.js'

const RUNS = 15
const newKeys = () => [randomBytes(32).toString('base64')]

/** A change of a text: a part of it, or another character in one place. Both are cut to its length. */
const mutations = fc.oneof(
  fc.record({ from: fc.nat(), to: fc.nat() }).map(
    ({ from, to }) =>
      (text: string) =>
        text.slice(...[from % text.length, to % text.length].sort((a, b) => a - b)),
  ),
  fc.record({ at: fc.nat(), by: fc.constantFrom('A', 'z', '0', '.', '-', '"', '%', ' ', '\u0000', 'ü') }).map(
    ({ at, by }) =>
      (text: string) =>
        text.slice(0, at % text.length) + by + text.slice((at % text.length) + 1),
  ),
  fc.string().map((more) => (text: string) => text + more),
)

/** Whatever somebody may put where the session layer keeps its sessions, or where a session has its tokens: nobody is logged in. */
export function describeForgedSessions<S extends Sessions, Site extends LayerSite>(
  driver: SessionLayerDriver<S, Site>,
): void {
  describe(`forged sessions of ${driver.name}`, () => {
    const it = scenarioTests(driver)
    const sites = layerSites(driver)

    /** A site whose handlers tell the tokens as they are in the session, and put others in their place. */
    const startForging = async (options: { encryptionKeys?: string[] } = { encryptionKeys: newKeys() }) => {
      const site = await sites.start(undefined, {}, options)
      let value: unknown
      site.handle('/copy', ({ session }) => session.tokens)
      site.handle('/forge', async ({ session }) => {
        session.tokens = value
      })
      const forge = async (tab: Browser, forged: unknown) => {
        value = forged
        expect(await tab.get('/forge')).toMatchObject(ok)
      }
      return { site, forge }
    }

    const kinds: [string, { encryptionKeys?: string[] }][] = [
      ['sealed', { encryptionKeys: newKeys() }],
      ['as the layer usually has them', {}],
    ]
    it.each(kinds)('S61 anything in the place of the tokens, %s', async (_, options) => {
      const { site, forge } = await startForging(options)
      await fc.assert(
        fc.asyncProperty(fc.oneof(fc.jsonValue(), fc.string({ unit: 'binary' }), copies), async (forged) => {
          const tab = site.browser()
          await forge(tab, forged)
          expect(await tab.get('/token')).toMatchObject(loggedOut)
        }),
        { numRuns: RUNS },
      )
    })

    it('S61 tokens that were changed', async () => {
      const { site, forge } = await startForging()
      const alice = await sites.loggedIn(site, 'alice')
      const copy: string = (await alice.get('/copy')).json
      const { token } = (await alice.get('/token')).json
      const carried = site.browser()
      await forge(carried, copy)
      expect((await carried.get('/token')).json.token).toBe(token)
      await fc.assert(
        fc.asyncProperty(mutations, async (mutate) => {
          const forged = mutate(copy)
          const tab = site.browser()
          await forge(tab, forged)
          const answer = await tab.get('/token')
          // Some of the bits of a last character count for nothing, and then it is her copy still.
          if (answer.status === 200)
            expect([answer.json.token, sameBytes(forged, copy)]).toEqual([token, true])
          else expect(answer).toMatchObject(loggedOut)
        }),
        { numRuns: RUNS },
      )
    })

    it('S61 tokens that were sealed with another key', async () => {
      const { site, forge } = await startForging()
      const other = (await startForging()).site
      const copy = (await (await sites.loggedIn(other)).get('/copy')).json
      const tab = site.browser()
      await forge(tab, copy)
      expect(await tab.get('/token')).toMatchObject(loggedOut)
    })

    it('S61 cookies that were changed, or are anything', async () => {
      const { site } = await startForging()
      const alice = await sites.loggedIn(site, 'alice')
      const { token } = (await alice.get('/token')).json
      const forgery = fc.tuple(
        fc.constantFrom(...driver.cookies),
        fc.oneof(
          mutations,
          fc.base64String().map((text) => () => text),
        ),
      )
      await fc.assert(
        fc.asyncProperty(forgery, async ([name, mutate]) => {
          const tab = site.browser(alice)
          tab.setCookie(name, encodeURIComponent(mutate(decodeURIComponent(alice.cookie(name)!))))
          const answer = await tab.get('/token')
          if (answer.status === 200) expect(answer.json.token).toBe(token)
          else expect(answer).toMatchObject(loggedOut)
        }),
        { numRuns: RUNS },
      )
    })
  })
}

/** What looks like tokens that are not sealed, or like a reference to some. */
const copies = fc
  .record(
    {
      version: fc.constantFrom<unknown>(1, 2, '1', null),
      audience: fc.string(),
      grantId: fc.oneof(fc.uuid(), fc.jsonValue()),
      revision: fc.oneof(fc.nat(), fc.jsonValue()),
      accessTokens: fc.oneof(fc.array(fc.jsonValue()), fc.jsonValue()),
      refreshToken: fc.oneof(fc.string(), fc.jsonValue()),
      key: fc.string(),
    },
    { requiredKeys: [] },
  )
  .map((copy) => JSON.stringify(copy))

function sameBytes(a: string, b: string): boolean {
  const bytes = (text: string) =>
    text.split('.').map((part) => Buffer.from(part, 'base64url').toString('base64url'))
  return bytes(a).join('.') === bytes(b).join('.')
}

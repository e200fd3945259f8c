import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type {
  CrossOriginDriver,
  CrossOriginSite,
  CrossOriginSiteOptions,
} from '../helpers/cross-origin-site.js'

type Lines = readonly (readonly [name: string, value: string])[]

const HOST = 'app.example.com'
const FRIEND = 'https://friend.example'

/** A request with a body's length, as a browser sends it. */
function from(origin: string | undefined, more: Lines = [], host = HOST): Lines {
  return [
    ['Host', host],
    ...(origin === undefined ? [] : [['Origin', origin] as const]),
    ['Content-Length', '0'],
    ...more,
  ]
}

/** A request for a WebSocket. */
function socketFrom(origin: string | undefined, more: Lines = []): Lines {
  return from(origin, [['Connection', 'Upgrade'], ['Upgrade', 'websocket'], ...more])
}

function site(value: string): Lines {
  return [['Sec-Fetch-Site', value]]
}

/** What refuses requests of other origins does in every framework, as a middleware and in the proxy. */
export function describeCrossOrigin(what: string, driver: CrossOriginDriver): void {
  describe(`${what}, ${driver.name}`, () => {
    let started: CrossOriginSite

    function at(options: CrossOriginSiteOptions): void {
      beforeAll(async () => {
        started = await driver.start(options)
      })
      afterAll(() => started.close())
    }
    async function expectPassed(method: string, lines: Lines): Promise<void> {
      const before = started.passed()
      expect((await started.ask(method, lines)).status).toBe(200)
      expect(started.passed()).toBe(before + 1)
    }
    async function expectRefused(method: string, lines: Lines): Promise<void> {
      const before = started.passed()
      const answer = await started.ask(method, lines)
      expect([answer.status, answer.type]).toEqual([
        403,
        expect.stringMatching(/^application\/problem\+json/),
      ])
      expect(JSON.parse(answer.text)).toMatchObject({ status: 403, error: 'cross_origin_request' })
      expect(started.passed()).toBe(before)
    }

    describe('without options', () => {
      at({})

      it.each(['POST', 'PUT', 'PATCH', 'DELETE'])('S67 a %s of another origin is refused', async (method) => {
        await expectRefused(method, from('https://evil.example', site('cross-site')))
        await expectRefused(method, from('https://evil.example'))
      })

      it.each(['POST', 'PUT', 'PATCH', 'DELETE'])('S67 a %s of this origin is not', async (method) => {
        await expectPassed(method, from(`https://${HOST}`, site('same-origin')))
        await expectPassed(method, from(`https://${HOST}`))
      })

      it.each(['GET', 'HEAD', 'OPTIONS'])('a %s of another origin passes', async (method) => {
        await expectPassed(method, from('https://evil.example', site('cross-site')))
        await expectPassed(method, from('https://evil.example'))
      })

      it.each<[string, Lines]>([
        ['a neighbour of the site', from('https://other.example.com', site('same-site'))],
        ['a word that no browser says', from(`https://${HOST}`, site('elsewhere'))],
        ['another spelling', from(`https://${HOST}`, site('Same-Origin'))],
        ['two sites', from(`https://${HOST}`, [...site('same-origin'), ...site('cross-site')])],
        [
          'two sites, the other way',
          from(`https://${HOST}`, [...site('cross-site'), ...site('same-origin')]),
        ],
        ['another site, and no origin', from(undefined, site('cross-site'))],
        ['a page without an origin', from('null')],
        ['a page without an origin, of another site', from('null', site('cross-site'))],
        ['another port', from(`https://${HOST}:8443`)],
        ['another host', from('https://app.example.net')],
        ['a host below', from('https://app.app.example.com')],
        ['a host above', from('https://example.com')],
        ['a host with a dot at the end', from(`https://${HOST}.`)],
        ['a host that begins alike', from(`https://${HOST}.evil.example`)],
        ['a user name that looks like it', from(`https://${HOST}@evil.example`)],
        ['a path', from(`https://${HOST}/`)],
        ['another scheme', from(`ftp://${HOST}`)],
        ['no scheme', from(HOST)],
        ['two origins', from(`https://${HOST}`, [['Origin', 'https://evil.example']])],
        ['two origins, the other way', from('https://evil.example', [['Origin', `https://${HOST}`]])],
        ['two hosts', from('https://evil.example', [['Host', 'evil.example']])],
        ['two hosts, the other way', from(`https://${HOST}`, [['Host', 'evil.example']])],
        ['a host that hides another', from('https://evil.example', [], `${HOST}@evil.example`)],
        ['a host with a path', from('https://evil.example', [], `evil.example/${HOST}`)],
        ['the port of the other scheme', from(`https://${HOST}`, [], `${HOST}:80`)],
        [
          'what a proxy says that is not trusted',
          from('https://evil.example', [['X-Forwarded-Host', 'evil.example']]),
        ],
      ])('refuses %s', async (_, lines) => expectRefused('POST', lines))

      it.each<[string, Lines]>([
        ['no browser', from(undefined)],
        ['the address bar', from(undefined, site('none'))],
        ['this origin, and no Origin', from(undefined, site('same-origin'))],
        ['a page without an origin, of this site', from('null', site('same-origin'))],
        ['http', from(`http://${HOST}`)],
        ['https behind a proxy that takes the TLS off', from(`https://${HOST}`)],
        ['a port', from(`https://${HOST}:8443`, [], `${HOST}:8443`)],
        ["the scheme's own port", from(`https://${HOST}`, [], `${HOST}:443`)],
        ["the scheme's own port, http", from(`http://${HOST}`, [], `${HOST}:80`)],
        ['a host in upper case', from(`https://${HOST}`, [], HOST.toUpperCase())],
        ['a dot at the end of both', from(`https://${HOST}.`, [], `${HOST}.`)],
        ['an address', from('http://127.0.0.1:3000', [], '127.0.0.1:3000')],
        ['an address, version 6', from('http://[::1]:3000', [], '[::1]:3000')],
        [
          'https, when the framework knows of http alone',
          from(`https://${HOST}`, [['X-Forwarded-Proto', 'http']]),
        ],
        [
          'http, when a proxy that is not trusted speaks',
          from(`http://${HOST}`, [['X-Forwarded-Proto', 'https']]),
        ],
      ])('lets pass %s', async (_, lines) => expectPassed('POST', lines))
    })

    describe('a WebSocket', () => {
      at({ allowedOrigins: [FRIEND] })

      it.each<[string, Lines]>([
        ['another origin', socketFrom('https://evil.example')],
        ['another site, as the browser says', socketFrom('https://evil.example', site('cross-site'))],
        ['no origin', socketFrom('null')],
        ['a neighbour', socketFrom('https://other.example.com', site('same-site'))],
      ])('of %s is refused', async (_, lines) => expectRefused('GET', lines))

      it.each<[string, Lines]>([
        ['this origin', socketFrom(`https://${HOST}`)],
        ['this origin, as the browser says', socketFrom(`https://${HOST}`, site('same-origin'))],
        ['no browser', socketFrom(undefined)],
        ['an allowed origin', socketFrom(FRIEND)],
        ['an allowed origin, as the browser says', socketFrom(FRIEND, site('cross-site'))],
      ])('of %s is not', async (_, lines) => expectPassed('GET', lines))
    })

    describe('allowedOrigins', () => {
      at({ allowedOrigins: [FRIEND, 'https://other.example:8443'] })

      it.each([FRIEND, 'https://other.example:8443'])('lets pass %s', async (origin) => {
        await expectPassed('POST', from(origin, site('cross-site')))
        await expectPassed('POST', from(origin, site('same-site')))
        await expectPassed('DELETE', from(origin))
      })

      it.each([
        'http://friend.example',
        'https://friend.example:8443',
        'https://www.friend.example',
        'https://friend.example.',
        'https://FRIEND.example',
        'https://friend.example/',
        'null',
        'https://friend.example, https://other.example:8443',
      ])('and does not let pass %s', async (origin) => {
        await expectRefused('POST', from(origin, site('cross-site')))
        await expectRefused('POST', from(origin))
      })

      it('nor a request of another site that names no origin', () =>
        expectRefused('POST', from(undefined, site('cross-site'))))
    })

    describe('over https', () => {
      at({ tls: true })

      it('a page of http is another origin', async () => {
        await expectRefused('POST', from(`http://${HOST}`))
        await expectRefused('POST', from(`http://${HOST}`, site('cross-site')))
        await expectRefused('POST', from(`http://${HOST}:443`, [], `${HOST}:443`))
        await expectRefused('GET', socketFrom(`http://${HOST}`))
      })

      it('a page of https is not', async () => {
        await expectPassed('POST', from(`https://${HOST}`))
        await expectPassed('GET', socketFrom(`https://${HOST}`))
      })
    })

    describe('behind a proxy that is trusted', () => {
      at({ trustsProxy: true })
      const https: Lines = [['X-Forwarded-Proto', 'https']]

      it('a page of http is another origin when the request came over https', async () => {
        await expectRefused('POST', from(`http://${HOST}`, https))
        await expectRefused('GET', socketFrom(`http://${HOST}`, https))
        await expectPassed('POST', from(`https://${HOST}`, https))
        await expectPassed('GET', socketFrom(`https://${HOST}`, https))
      })

      it('where the proxy does not say how the request came, both are of this site', async () => {
        await expectPassed('POST', from(`http://${HOST}`))
        await expectPassed('POST', from(`https://${HOST}`))
      })

      it('the host is the one that the proxy was asked for', async () => {
        const forwarded: Lines = [['X-Forwarded-Host', `${HOST}:8443`]]
        await expectPassed('POST', from(`https://${HOST}:8443`, [...https, ...forwarded], 'backend:3000'))
        await expectRefused('POST', from(`https://${HOST}`, [...https, ...forwarded], 'backend:3000'))
        await expectRefused('POST', from('https://evil.example', [...https, ...forwarded], 'backend:3000'))
      })
    })
  })
}

import { X509Certificate } from 'node:crypto'
import { Agent } from 'node:https'
import { afterEach, describe, expect, it } from '@jest/globals'
import { selfSignedTlsClientAuth } from '../../lib/index.js'
import { certificate } from '../helpers/certificate.js'
import { type LoginSite, type LoginSiteOptions, startLoginSite } from '../helpers/login-site.js'
import { logInAt, startTlsProvider, type TlsProvider } from '../helpers/tls-provider.js'

const sites: LoginSite[] = []
let provider: TlsProvider | undefined

afterEach(async () => {
  for (const site of sites.splice(0)) await site.close()
  provider?.close()
})

const own = certificate()
const fingerprint = new X509Certificate(own.cert).fingerprint256

/** Starts a site whose client authenticates with the certificate. */
async function startSite(
  { ca, issuer }: TlsProvider,
  options: LoginSiteOptions = {},
  certificateOfClient = own,
): Promise<LoginSite> {
  const further = {
    issuer,
    clientAuthentication: selfSignedTlsClientAuth(certificateOfClient),
    http: { httpsAgent: new Agent({ ca }) },
  }
  const site = await startLoginSite({
    ...options,
    login: { ...further, userinfo: true },
    tokens: further,
  } as LoginSiteOptions)
  sites.push(site)
  return site
}

const seenBy = ({ requests }: TlsProvider) =>
  requests.map((request) => ({
    path: request.path,
    isAlias: request.isAlias,
    fingerprint: request.fingerprint,
  }))
const withCertificate = (path: string) => ({ path, isAlias: true, fingerprint })
const without = (path: string) => ({ path, isAlias: false, fingerprint: undefined })

describe('S102 login() with a client certificate', () => {
  it('S102 uses the endpoints for certificates, and shows the certificate to no other', async () => {
    provider = await startTlsProvider()
    const site = await startSite(provider)
    const { status, text } = await site.step(await logInAt(site), '/session')
    expect({ status, text }).toEqual({ status: 200, text: expect.stringContaining('"sub":"ann"') })
    const seen = seenBy(provider)
    expect(seen).toEqual(
      expect.arrayContaining([
        without('/.well-known/openid-configuration'),
        withCertificate('/token'),
        without('/jwks'),
        withCertificate('/userinfo'),
      ]),
    )
    expect(seen.filter(({ isAlias, fingerprint: of }) => isAlias !== (of !== undefined))).toEqual([])
  })

  it('S102 fetches userinfo with the certificate in a process where no user has logged in', async () => {
    provider = await startTlsProvider()
    const before = await startSite(provider)
    const visitor = await logInAt(before)
    const after = await startSite(provider, {
      session: { store: before.store },
      routes(app) {
        app.get('/refresh', ({ tokens }, response, next) => {
          tokens.getAccessToken({ rejected: 'at' }).then(() => response.json({}), next)
        })
      },
    })
    const returning = after.browser()
    returning.setCookie('connect.sid', visitor.cookie('connect.sid')!)
    expect((await returning.get('/refresh')).status).toBe(200)
    const from = provider.requests.length
    expect((await returning.get('/session')).json.user).toEqual({ sub: 'ann', name: 'Ann' })
    expect(seenBy(provider).slice(from)).toEqual([
      without('/.well-known/openid-configuration'),
      withCertificate('/userinfo'),
    ])
  })

  it('S102 a certificate that the provider refuses is the fault of the client', async () => {
    provider = await startTlsProvider({ isStrict: true })
    const site = await startSite(provider, {}, certificate(365, 'P-384'))
    await logInAt(site)
    expect(site.errors).toMatchObject([{ code: 'ERR_CLIENT_REJECTED' }])
    expect(site.failures).toEqual([])
  })
})

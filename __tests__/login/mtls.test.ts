import { X509Certificate } from 'node:crypto'
import { Agent } from 'node:https'
import { afterEach, describe, expect, it } from '@jest/globals'
import { selfSignedTlsClientAuth } from '../../lib/index.js'
import { certificate } from '../helpers/certificate.js'
import { type LoginSite, type LoginSiteOptions, startLoginSite } from '../helpers/login-site.js'
import { logInAt, startTlsProvider, type TlsProvider } from '../helpers/tls-provider.js'

let site: LoginSite | undefined
let provider: TlsProvider | undefined

afterEach(async () => {
  await site?.close()
  provider?.close()
})

const fingerprintOf = ({ cert }: { readonly cert: string }) => new X509Certificate(cert).fingerprint256

describe('S102 login() with a client certificate', () => {
  it('S102 uses the endpoints for certificates, and shows the certificate to no other', async () => {
    const own = certificate()
    provider = await startTlsProvider()
    const { ca, issuer, requests } = provider
    const further = {
      issuer,
      clientAuthentication: selfSignedTlsClientAuth(own),
      http: { httpsAgent: new Agent({ ca }) },
    }
    site = await startLoginSite({
      login: { ...further, userinfo: true },
      tokens: further,
    } as LoginSiteOptions)

    const { status, text } = await site.step(await logInAt(site), '/session')
    expect({ status, text }).toEqual({ status: 200, text: expect.stringContaining('"sub":"ann"') })
    const seen = () => requests.map(({ path, isAlias, fingerprint }) => ({ path, isAlias, fingerprint }))
    const withCertificate = (path: string) => ({ path, isAlias: true, fingerprint: fingerprintOf(own) })
    const without = (path: string) => ({ path, isAlias: false, fingerprint: undefined })
    expect(seen()).toEqual(
      expect.arrayContaining([
        without('/.well-known/openid-configuration'),
        withCertificate('/token'),
        without('/jwks'),
        withCertificate('/userinfo'),
      ]),
    )
    expect(seen().filter(({ isAlias, fingerprint }) => isAlias !== (fingerprint !== undefined))).toEqual([])
  })
})

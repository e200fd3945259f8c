import { expect, it, jest } from '@jest/globals'

const major = Number(process.versions.node.split('.')[0])

// Version 4 is made for Node 22 and later.
if (major < 22) it('needs a newer Node', () => expect(major).toBeLessThan(22))
else {
  jest.unstable_mockModule('http-proxy-middleware', () => import('http-proxy-middleware4'))
  const { describeProxy } = await import('../contract/proxy.js')
  const { describeProxyStreams } = await import('../contract/proxy-streams.js')
  const { proxyFrameworks } = await import('../helpers/proxy-site.js')

  for (const framework of proxyFrameworks) {
    describeProxy(framework)
    describeProxyStreams(framework)
  }
}

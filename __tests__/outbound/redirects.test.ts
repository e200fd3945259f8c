import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { axiosOver } from '../../lib/outbound/axios/axios.js'
import type { TokenNeed } from '../../lib/tokens/token-need.js'
import { describeOutboundRedirects } from '../contract/outbound-redirects.js'
import { outboundClients } from '../helpers/outbound-clients.js'
import { json, type WireServer, wireServer } from '../helpers/wire-server.js'

let api: WireServer
let other: WireServer
let needs: TokenNeed[]

beforeEach(async () => {
  needs = []
  other = await wireServer((_request, response) => json(response, { from: 'other' }))
  api = await wireServer(({ path }, response) => {
    const [, status, target] = /^\/(3\d\d)\/(\w+)$/.exec(path) ?? []
    if (!status) return json(response, { from: 'api' })
    const location = target === 'other' ? `${other.url}/x` : `/${target}`
    return response.writeHead(Number(status), { location }).end('moved')
  })
})
afterEach(() => Promise.all([api.close(), other.close()]))

const source = {
  async tokenToSend(need: TokenNeed = {}) {
    needs.push(need)
    return { token: `token${needs.length}`, tokenType: 'Bearer', expiresAt: Number.MAX_SAFE_INTEGER }
  },
  secrets: () => [],
}
const instance = (config: object = {}) => axiosOver(() => source, { baseURL: api.url, ...config })

for (const client of outboundClients) describeOutboundRedirects(client)

describe('a redirect of axios', () => {
  it('is not followed with maxRedirects 0, and validateStatus decides', async () => {
    const call = instance({ maxRedirects: 0 }).get('/302/end')
    await expect(call).rejects.toMatchObject({ isAxiosError: true, status: 302 })
    const validateStatus = (status: number) => status === 302
    expect((await instance({ maxRedirects: 0, validateStatus }).get('/302/end')).status).toBe(302)
    expect(api.requests).toHaveLength(2)
  })

  it('is shown to the beforeRedirect of the app, without the token', async () => {
    const headers = { Cookie: 'a=b', 'X-Trace': 'trace' }
    const seen: object[] = []
    const beforeRedirect = (options: Record<string, unknown>) => {
      seen.push({ ...options })
    }
    await instance({ headers, beforeRedirect }).get('/307/other')
    expect(seen).toMatchObject([{ href: `${other.url}/x`, method: 'GET', headers: { 'X-Trace': 'trace' } }])
    expect(JSON.stringify(seen)).not.toContain('token1')
    expect(JSON.stringify(seen)).not.toContain('a=b')
  })

  it('takes the sensitiveHeaders of the app along within an origin alone', async () => {
    const config = { headers: { 'X-Key': 'key' }, sensitiveHeaders: ['x-key'] }
    await instance(config).get('/302/end')
    await instance(config).get('/302/other')
    expect(api.requests.map(({ headers }) => headers['x-key'])).toEqual(['key', 'key', 'key'])
    expect(other.requests.map(({ headers }) => headers['x-key'])).toEqual([undefined])
  })

  it('fails with what the beforeRedirect of the app throws', async () => {
    const beforeRedirect = () => {
      throw new Error('not there')
    }
    const error = await instance({ beforeRedirect })
      .get('/302/other')
      .catch((e) => e)
    expect(error).toMatchObject({ code: 'ERR_FR_REDIRECTION_FAILURE', cause: { message: 'not there' } })
    expect(other.requests).toEqual([])
  })
})

it('the streamed 401 is destroyed when the refresh fails', async () => {
  const refusing = await wireServer((_request, response) => {
    closed = new Promise((resolve) => response.on('close', () => resolve('closed')))
    response.writeHead(401).write('x')
  })
  let closed: Promise<string> | undefined
  const failing = {
    tokenToSend: (need: TokenNeed = {}) =>
      need.rejected ? Promise.reject(new Error('no refresh')) : source.tokenToSend(need),
    secrets: () => [],
  }
  const client = axiosOver(() => failing, { baseURL: refusing.url, responseType: 'stream' })
  await expect(client.get('/')).rejects.toThrow('no refresh')
  expect(await closed).toBe('closed')
  await refusing.close()
})

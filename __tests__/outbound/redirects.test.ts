import { Readable } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import type { AxiosError } from 'axios'
import { axiosOver } from '../../lib/outbound/axios.js'
import type { TokenNeed } from '../../lib/token-set.js'
import { json, type WireServer, wireServer } from '../helpers/wire-server.js'

let api: WireServer
let other: WireServer
let needs: TokenNeed[]
/** What the other origin answers. */
let otherStatus: number

beforeEach(async () => {
  needs = []
  otherStatus = 200
  other = await wireServer((_request, response) => json(response, { from: 'other' }, otherStatus))
  api = await wireServer(({ path }, response) => {
    const [, status, target] = /^\/(3\d\d)\/(\w+)$/.exec(path) ?? []
    if (!status) return json(response, { from: 'api' })
    const location = target === 'other' ? `${other.url}/x` : target === 'loop' ? path : `/${target}`
    return response.writeHead(Number(status), { location }).end('moved')
  })
})
afterEach(() => Promise.all([api.close(), other.close()]))

const source = {
  async tokenToSend(need: TokenNeed = {}) {
    needs.push(need)
    return { token: `token${needs.length}`, tokenType: 'Bearer', expiresAt: Number.MAX_SAFE_INTEGER }
  },
}
const instance = (config: object = {}) => axiosOver(source, { baseURL: api.url, ...config })
const sent = ({ requests }: WireServer) =>
  requests.map(({ method, body, headers }) => [method, body, headers['content-type'], headers.authorization])

describe('a redirect', () => {
  it.each([
    [301, 'post', 'GET'],
    [302, 'post', 'GET'],
    [303, 'post', 'GET'],
    [303, 'put', 'GET'],
    [301, 'put', 'PUT'],
    [307, 'post', 'POST'],
    [308, 'post', 'POST'],
  ])('%d of %s is followed with %s', async (status, method, followed) => {
    const answer = await instance().request({ url: `/${status}/end`, method, data: { item: 1 } })
    expect(answer.data).toEqual({ from: 'api' })
    expect(answer.request.res.responseUrl).toBe(`${api.url}/end`)
    const body = ['{"item":1}', 'application/json']
    expect(sent(api)).toEqual([
      [method.toUpperCase(), ...body, 'Bearer token1'],
      [followed, ...(followed === 'GET' ? ['', undefined] : body), 'Bearer token1'],
    ])
  })

  it('is passed on when the body is a stream that would have to be sent again', async () => {
    const error: AxiosError = await instance()
      .post('/307/end', Readable.from(['x']))
      .catch((e) => e)
    expect(error).toMatchObject({ status: 307, response: { data: 'moved' } })
    expect(api.requests).toHaveLength(1)
  })

  it.each([
    [undefined, 6],
    [2, 3],
  ])('is followed so often: maxRedirects %s', async (maxRedirects, requests) => {
    const error = await instance({ maxRedirects })
      .get('/302/loop')
      .catch((e) => e)
    expect(error).toMatchObject({ isAxiosError: true, code: 'ERR_FR_TOO_MANY_REDIRECTS' })
    expect(api.requests).toHaveLength(requests)
  })

  it('is not followed with maxRedirects 0, and validateStatus decides', async () => {
    expect(
      await instance({ maxRedirects: 0 })
        .get('/302/end')
        .catch((e) => e),
    ).toMatchObject({ status: 302 })
    const validateStatus = (status: number) => status === 302
    expect((await instance({ maxRedirects: 0, validateStatus }).get('/302/end')).status).toBe(302)
    expect(api.requests).toHaveLength(2)
  })

  it('takes the token along to allowedOrigins', async () => {
    await instance({ allowedOrigins: [other.url] }).get('/302/other')
    expect(other.requests[0]!.headers.authorization).toBe('Bearer token1')
  })

  it('takes no credentials along to another origin, and what else there is', async () => {
    const headers = { Cookie: 'a=b', 'Proxy-Authorization': 'Basic x', 'X-Trace': 'trace' }
    const seen: object[] = []
    const beforeRedirect = (options: Record<string, unknown>) => {
      seen.push({ ...options })
    }
    await instance({ headers, beforeRedirect }).get('/307/other')
    const [{ headers: received }] = other.requests as [WireServer['requests'][0]]
    expect(received).toMatchObject({ 'x-trace': 'trace', host: other.url.slice('http://'.length) })
    expect(Object.keys(received)).not.toEqual(expect.arrayContaining(['cookie']))
    expect(received['proxy-authorization']).toBeUndefined()
    expect(received.authorization).toBeUndefined()
    expect(seen).toMatchObject([{ href: `${other.url}/x`, method: 'GET', headers: { 'X-Trace': 'trace' } }])
    expect(JSON.stringify(seen)).not.toContain('token1')
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

  it.each([
    [[], 1],
    [['other'], 2],
  ])('to an origin that answers 401: allowed %j, %d tokens asked for', async (allowed, asked) => {
    otherStatus = 401
    const allowedOrigins = allowed.map(() => other.url)
    expect(
      await instance({ allowedOrigins })
        .get('/302/other')
        .catch((e) => e),
    ).toMatchObject({ status: 401 })
    expect(needs).toHaveLength(asked)
    expect(api.requests).toHaveLength(asked)
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
  }
  const client = axiosOver(failing, { baseURL: refusing.url, responseType: 'stream' })
  await expect(client.get('/')).rejects.toThrow('no refresh')
  expect(await closed).toBe('closed')
  await refusing.close()
})

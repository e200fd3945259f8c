import { Readable } from 'node:stream'
import { type AxiosInstance, isCancel } from 'axios'
import { sessionAxios, sessionFetch } from '../../lib/index.js'
import { axiosOver } from '../../lib/outbound/axios/axios.js'
import { fetchOver } from '../../lib/outbound/fetch/fetch.js'
import type { OutboundCall, OutboundClientDriver } from '../contract/outbound-client-driver.js'

const axiosDriver: OutboundClientDriver = {
  name: 'axios',
  of: (tokens, config) => callOfAxios(tokens.axios(config)),
  over: (tokens, config) => callOfAxios(axiosOver(() => tokens, config)),
  ambient: (config) => callOfAxios(sessionAxios(config)),
  onceOnly: [['a stream', () => Readable.from(['one ', 'two'])]],
  isAborted: isCancel,
  tooManyRedirects: { isAxiosError: true, code: 'ERR_FR_TOO_MANY_REDIRECTS' },
}

function callOfAxios(instance: AxiosInstance): OutboundCall {
  return async ({ url, body, ...request }) => {
    const response = await instance.request<string>({
      ...request,
      url,
      data: body,
      validateStatus: null,
      responseType: 'text',
    })
    const { status, data } = response
    return { status, text: data, url: response.request.res.responseUrl, raw: response }
  }
}

const fetchDriver: OutboundClientDriver = {
  name: 'fetch',
  of: (tokens, config) => callOfFetch(tokens.fetch(config)),
  over: (tokens, config) => callOfFetch(fetchOver(() => tokens, config)),
  ambient: (config) => callOfFetch(sessionFetch(config)),
  onceOnly: [
    ['a stream', () => Readable.from([Buffer.from('one '), Buffer.from('two')])],
    ['a web stream', () => new Blob(['one ', 'two']).stream()],
    ['an async iterable', () => pieces()],
  ],
  isAborted: (error, { reason }) => error === reason,
  tooManyRedirects: { name: 'TypeError', message: 'fetch failed' },
}

async function* pieces(): AsyncGenerator<Buffer> {
  yield Buffer.from('one ')
  yield Buffer.from('two')
}

function callOfFetch(call: typeof fetch): OutboundCall {
  return async ({ url, ...request }) => {
    const init = { ...request, duplex: 'half' } as RequestInit
    const response = await call(url, init)
    return { status: response.status, text: await response.text(), url: response.url, raw: response }
  }
}

/** The clients for calls to an API. */
export const outboundClients: readonly OutboundClientDriver[] = [axiosDriver, fetchDriver]

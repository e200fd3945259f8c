import type { ServerResponse } from 'node:http'
import type { Reply } from './reply.js'

/** Headers that an app sets in a middleware in front: the policies of its pages, and those of its own making. */
const OF_THE_APP =
  /^(?:content-security-policy|cross-origin-|origin-agent-cluster|permissions-policy|referrer-policy|x-)/

type HeaderValue = string | string[]

/** Sets the headers of a reply. Those that the app has set in a middleware in front come first. */
export function putHeaders(
  { headers }: Reply,
  response: ServerResponse,
  put: (name: string, value: HeaderValue) => unknown,
): void {
  for (const name of Object.keys(headers)) {
    const value = headers[name] as HeaderValue
    const isSet = response.hasHeader(name)
    if (isSet && OF_THE_APP.test(name)) continue
    if (isSet && name === 'vary') put(name, `${response.getHeader(name)}, ${value}`)
    else if (isSet && name === 'cache-control' && isNotStored(response)) {
      const cacheControl = notStored(String(value), response)
      if (cacheControl !== undefined) put(name, cacheControl)
    } else put(name, value)
  }
}

/** Returns the `Cache-Control` to set. The app's `no-store` stays, unless the API says more than this proxy does by itself. */
function notStored(value: string, response: ServerResponse): string | undefined {
  if (value === 'private') return undefined
  return value === 'private, no-transform' ? `${response.getHeader('cache-control')}, no-transform` : value
}

/** Whether the app has said more than `Cache-Control: private`. */
function isNotStored(response: ServerResponse): boolean {
  return /\bno-store\b/i.test(String(response.getHeader('cache-control')))
}

/** Sends the headers at once, unless they hold letters beyond ASCII: Node sends these in another encoding on their own. */
export function flushHeaders(response: ServerResponse): void {
  const values = Object.values(response.getHeaders()).join('')
  if (!/[\x80-\xff]/.test(values)) response.flushHeaders()
}

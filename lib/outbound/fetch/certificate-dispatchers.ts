import { LRUCache } from 'lru-cache'
import { ConfigurationError } from '../../errors/token-error.js'
import type { Option } from '../../options/option-table.js'
import { hasField } from '../../options/own-properties.js'
import type { ClientCertificate } from '../../tokens/client-certificate.js'
import { digestOf } from '../../tokens/grant-proof.js'

/** Makes a dispatcher of undici whose connections have the certificate, such as `new Agent({ connect: { cert, key } })`. */
export type MakeDispatcher = (certificate: ClientCertificate) => object

/** How many dispatchers of one function are kept, with their connections. Each tenant may have a certificate of its own. */
const MAX_CERTIFICATES = 100

const made = new WeakMap<MakeDispatcher, LRUCache<string, object>>()

/** Returns the dispatcher that a function has made for a certificate. It is made once for each certificate. */
export function dispatcherFor(make: MakeDispatcher, certificate: ClientCertificate): object {
  let dispatchers = made.get(make)
  if (!dispatchers) {
    dispatchers = new LRUCache({ max: MAX_CERTIFICATES })
    made.set(make, dispatchers)
  }
  const name = digestOf(String(certificate.cert))
  const known = dispatchers.get(name)
  if (known) return known
  const dispatcher: unknown = make(certificate)
  if (!isDispatcher(dispatcher)) throw noDispatcherError()
  dispatchers.set(name, dispatcher)
  return dispatcher
}

function isDispatcher(value: unknown): value is object {
  return typeof value === 'object' && value !== null && hasField(value, 'dispatch')
}

/** The option `clientCertificate` of `fetch()`. */
export const makeDispatcherOption: Option<MakeDispatcher | undefined> = (given) => {
  if (given === undefined || typeof given === 'function') return given as MakeDispatcher | undefined
  throw noDispatcherError()
}

function noDispatcherError(): ConfigurationError {
  return new ConfigurationError(
    '`clientCertificate` of fetch() must be a function that returns a dispatcher of undici: ' +
      'clientCertificate: ({ cert, key }) => new Agent({ connect: { cert, key } }). Or use axios({ …, clientCertificate: true }).',
  )
}

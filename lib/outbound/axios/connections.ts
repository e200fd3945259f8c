import type { InternalAxiosRequestConfig } from 'axios'

/** The options of a config that lead to connections, and so to the requests of other users in flight on them. */
export type Connections = Partial<InternalAxiosRequestConfig>

/** The options that axios itself sends a request over. */
const OF_AXIOS: readonly string[] = ['httpAgent', 'httpsAgent', 'transport']

/** Options of axios that hold no connections, and those that axios itself needs until it has the response. */
const WITHOUT_CONNECTIONS: ReadonlySet<string> = new Set([
  ...[
    'adapter',
    'baseURL',
    'cancelToken',
    'data',
    // The classes of forms and of binary data: they lead through half of the platform.
    'env',
    'headers',
    'method',
    'params',
    'signal',
    'transformRequest',
  ],
  ...['transformResponse', 'transitional', 'url', 'validateStatus'],
])

/** How many objects of a config are looked at. A larger one is taken for one that leads to connections. */
const MAX_OBJECTS = 1000

/**
 * Takes the options out of a config that lead to connections: the agents and the transport of axios, a dispatcher of
 * `fetch()`, and every other object that holds one of these.
 */
export function detachConnections(config: object): Connections {
  const taken: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(config)) {
    if (value === undefined || WITHOUT_CONNECTIONS.has(name)) continue
    if (!OF_AXIOS.includes(name) && !leadsToConnections(value, new Set())) continue
    taken[name] = value
    delete (config as Record<string, unknown>)[name]
  }
  return taken as Connections
}

function leadsToConnections(value: unknown, seen: Set<object>): boolean {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return false
  if (seen.has(value)) return false
  if (seen.add(value).size > MAX_OBJECTS || isPool(value)) return true
  return Reflect.ownKeys(value).some((name) => {
    const property = Reflect.getOwnPropertyDescriptor(value, name)
    return leadsToConnections(property?.value, seen)
  })
}

/** Agents of Node have `addRequest()`, dispatchers of undici `dispatch()`. */
function isPool(value: object): boolean {
  const { addRequest, dispatch } = value as { addRequest?: unknown; dispatch?: unknown }
  return typeof addRequest === 'function' || typeof dispatch === 'function'
}

import { randomBytes } from 'node:crypto'
import { type BenchServer, startServer } from '../harness/servers.js'
import type { SiteOptions } from './site.js'
import type { TokenEndpointState } from './token-endpoint.js'

const encryptionKeys = [randomBytes(32).toString('base64')]

/** Starts a token endpoint. */
export async function startTokenEndpoint(state: Partial<TokenEndpointState>): Promise<BenchServer> {
  const endpoint = await startServer(urlOf('token-endpoint.ts'), [])
  await endpoint.ask('set', state)
  return endpoint
}

/** Starts a site that refreshes at a token endpoint. */
export function startSite({ port }: BenchServer, tokens: object, redisUrl?: string): Promise<BenchServer> {
  const options: SiteOptions = {
    tokenEndpoint: `http://127.0.0.1:${port}/token`,
    tokens: { encryptionKeys, ...tokens },
    ...(redisUrl !== undefined && { redisUrl }),
  }
  return startServer(urlOf('site.ts'), [JSON.stringify(options)])
}

function urlOf(file: string): string {
  return new URL(file, import.meta.url).href
}

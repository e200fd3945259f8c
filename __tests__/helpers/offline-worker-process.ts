/** A worker without HTTP (see `offline-worker.ts`): it gets a token for each reference that its parent sends. */
import { Redis } from 'ioredis'
import { clientSecretBasic, offlineTokens, type TokenError } from '../../lib/index.js'
import { redisGrantStore } from '../../lib/redis.js'

/** What a worker is told at its start. */
export interface WorkerOptions {
  readonly grantsUrl: string
  readonly tokenEndpoint: string
  readonly revocationEndpoint: string
  readonly clientId: string
  readonly clientSecret: string
  readonly tokens: object
}

/** What a worker is told to do. */
export interface WorkerOrder {
  readonly id: number
  readonly reference: string
  readonly act: 'token' | 'revoke'
}

/** What came of it. */
export interface WorkerResult {
  readonly id: number
  readonly token?: string
  readonly error?: { readonly code: string; readonly reason?: string; readonly message: string }
}

const options = JSON.parse(process.env.WORKER_PROCESS!) as WorkerOptions
const client = new Redis(options.grantsUrl)
client.on('error', () => {})
const grants = redisGrantStore(client)
const worker = offlineTokens({
  tokenEndpoint: options.tokenEndpoint,
  revocationEndpoint: options.revocationEndpoint,
  clientId: options.clientId,
  clientAuthentication: clientSecretBasic(options.clientSecret),
  encryptionKeys: false,
  grants,
  ...options.tokens,
})

async function done({ act, reference }: WorkerOrder): Promise<Omit<WorkerResult, 'id'>> {
  const user = worker.offline(reference)
  try {
    if (act === 'token') return { token: (await user.getAccessToken()).token }
    await user.revoke()
    return {}
  } catch (error) {
    const { code, message, reason } = error as TokenError
    return { error: { code, message, ...(reason !== undefined && { reason }) } }
  }
}

process.on('message', async (order: WorkerOrder) => {
  process.send!({ id: order.id, ...(await done(order)) } satisfies WorkerResult)
})

// Nothing ends the process but that there is nothing left to do.
process.on('SIGTERM', async () => {
  await worker.close()
  await grants.close()
  await client.quit()
  process.disconnect()
})
process.send!({ id: 0 } satisfies WorkerResult)

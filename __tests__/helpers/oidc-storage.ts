import type { Adapter, AdapterPayload, ClientMetadata } from 'oidc-provider'

/**
 * Keeps what an authorization server knows, in memory and without a limit. One for each server.
 *
 * The clients are in here, not in the configuration: oidc-provider takes a structured clone of what is configured, and
 * under jest that clone is of another realm, whose objects oidc-provider does not take for plain ones.
 */
export function oidcStorage(clients: readonly ClientMetadata[]): (model: string) => Adapter {
  return (model) => {
    const table = new Map<string, AdapterPayload>()
    if (model === 'Client') for (const client of clients) table.set(client.client_id, client)
    const findBy = async (key: 'uid' | 'userCode', value: string) =>
      [...table.values()].find((payload) => payload[key] === value)
    return {
      async upsert(id, payload) {
        table.set(id, payload)
      },
      find: async (id) => table.get(id),
      findByUid: (uid) => findBy('uid', uid),
      findByUserCode: (userCode) => findBy('userCode', userCode),
      async consume(id) {
        const payload = table.get(id)
        if (payload) table.set(id, { ...payload, consumed: Math.floor(Date.now() / 1000) })
      },
      async destroy(id) {
        table.delete(id)
      },
      async revokeByGrantId(grantId) {
        for (const [id, payload] of table) if (payload.grantId === grantId) table.delete(id)
      },
    }
  }
}

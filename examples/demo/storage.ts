import type { Adapter, AdapterPayload, ClientMetadata } from 'oidc-provider'

/** The storage of the authorization server for its clients, sessions, grants and tokens: in memory. */
export function memoryStorage(clients: readonly ClientMetadata[]): (model: string) => Adapter {
  return (model) => {
    const rows = new Map<string, AdapterPayload>()
    if (model === 'Client') for (const client of clients) rows.set(client.client_id, client)
    const first = (matches: (row: AdapterPayload) => boolean) => [...rows.values()].find(matches)
    return {
      upsert: async (id, row) => void rows.set(id, row),
      find: async (id) => rows.get(id),
      findByUid: async (uid) => first((row) => row.uid === uid),
      findByUserCode: async (userCode) => first((row) => row.userCode === userCode),
      consume: async (id) => void rows.set(id, { ...rows.get(id), consumed: Math.floor(Date.now() / 1000) }),
      destroy: async (id) => void rows.delete(id),
      async revokeByGrantId(grantId) {
        for (const [id, row] of rows) if (row.grantId === grantId) rows.delete(id)
      },
    }
  }
}

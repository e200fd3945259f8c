import { randomUUID } from 'node:crypto'
import { QUICK_TIMEOUT_MS } from '../concurrency/time-constants.js'
import { digestOf } from '../tokens/grant-proof.js'
import type { ManagerContext } from './manager-context.js'

/**
 * Resolves with whether this is the first use, in all processes, of a text that may be used once, such as the id of a logout
 * token. Each process tries to store a mark of the use in the grant store, and only the first process can.
 *
 * @param kind names the kind of the text, such as `logout token`
 * @param ttlMs how long the mark is to be kept
 * @throws `TokenError` if the grant store fails
 */
export async function isFirstUse(
  { audience, shared }: Pick<ManagerContext, 'audience' | 'shared'>,
  kind: string,
  name: string,
  ttlMs: number,
): Promise<boolean> {
  const id = digestOf(`session-token-manager ${kind}\n${audience}\n${name}`)
  const mark = randomUUID()
  const committing = shared.store.commit(id, mark, { revision: 1, tokens: mark }, { ttlMs })
  const { record } = await shared.ask(committing, QUICK_TIMEOUT_MS, () => [])
  return record?.tokens === mark
}

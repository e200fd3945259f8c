import { randomUUID } from 'node:crypto'
import { QUICK_TIMEOUT_MS } from '../concurrency/time-constants.js'
import { digestOf } from '../tokens/grant-proof.js'
import type { ManagerContext } from './manager-context.js'

/**
 * Resolves with whether no process has used something before that may be used once. Of several processes only one succeeds in
 * storing its mark.
 *
 * @param kind what it is, such as `logout token`
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

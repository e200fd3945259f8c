import type { KnownGrants } from './grants/known-grants.js'
import type { SessionHome } from './sessions/session-adapter.js'
import type { SessionCopies } from './sessions/session-copy.js'
import type { TokenSet } from './token-set.js'

export interface CopyWritesContext {
  readonly copies: SessionCopies
  readonly known: KnownGrants
}

/** Writes a token set into a stored session in the place of an older copy of its grant. Resolves with whether it did. */
export function replaceOlder(
  { copies, known }: CopyWritesContext,
  home: SessionHome,
  tokens: TokenSet,
): Promise<boolean> {
  const { grantId, revision } = tokens
  return home.replace(copies.write(tokens), (copy) => {
    const stored = copies.read(copy)
    return !known.ended(grantId) && stored?.grantId === grantId && stored.revision < revision
  })
}

/** Takes the copies of grants out of a stored session, or puts another one in their place. */
export async function takeOutCopies(
  { copies }: CopyWritesContext,
  home: SessionHome,
  grantIds: readonly string[],
  instead?: unknown,
): Promise<void> {
  await home.replace(instead, (copy) => grantIds.includes(copies.read(copy)?.grantId ?? ''))
}

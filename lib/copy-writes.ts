import { identityOf } from './grant-proof.js'
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
  const { revision } = tokens
  return home.replace(copies.write(tokens), (copy) => {
    const stored = copies.read(copy)
    return !known.endOf(tokens) && isOf(tokens, stored) && stored.revision < revision
  })
}

/** Takes copies out of a stored session that are of a grant or of a session, named by its id or its identity. */
export async function takeOutCopies(
  { copies }: CopyWritesContext,
  home: SessionHome,
  names: readonly string[],
): Promise<void> {
  await home.replace(undefined, (copy) => {
    const stored = copies.read(copy)
    return stored !== undefined && (names.includes(stored.grantId) || names.includes(identityOf(stored)))
  })
}

/** Whether a copy is of the same session of the same grant. */
function isOf(tokens: TokenSet, copy: TokenSet | undefined): copy is TokenSet {
  return copy !== undefined && identityOf(copy) === identityOf(tokens)
}

import type { SessionAdapter } from '../sessions/session-adapter.js'
import type { DpopKey } from '../tokens/dpop-key.js'
import { newest, secretsOf, type TokenSet } from '../tokens/token-set.js'
import type { ManagerContext } from './manager-context.js'
import { sessionStoreError } from './session-writer.js'

/**
 * Returns the key of a session's next login: the key that was made for the authorization request, else that of the grant
 * which the login replaces, so that a login in a second tab finds it; else a new key.
 */
export async function keyOfNextLogin(
  { codec, dpop, registry }: ManagerContext,
  session: SessionAdapter,
): Promise<DpopKey | undefined> {
  if (!dpop) return undefined
  // A session that was regenerated for the login does not hold the key any more.
  const copy = session.read() ?? session.lastKnown
  const held = codec.read(copy)
  const known = held && newest(held, registry.tokensOf(held.grantId))
  return known?.dpopKey ?? codec.readKey(copy) ?? dpop.newKey()
}

/**
 * Returns the key of a session's next login, and puts it into the session if it holds none. Two tabs get the same key.
 *
 * @param tokens the tokens of the session; they keep their place, so their grant must have a key
 */
export async function keyForLogin(
  context: ManagerContext,
  session: SessionAdapter,
  tokens: TokenSet | undefined,
): Promise<DpopKey> {
  if (tokens?.dpopKey) return tokens.dpopKey
  const { codec } = context
  const held = codec.readKey(session.read())
  if (held) return held
  try {
    // Another tab may have begun a login since this request has loaded its session.
    const stored = codec.readKey(await session.reread())
    const key = stored ?? (await context.dpop!.newKey())
    await session.save(codec.writeKey(key))
    return key
  } catch (error) {
    throw sessionStoreError(error, tokens ? secretsOf(tokens) : [])
  }
}

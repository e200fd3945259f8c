import { ConfigurationError } from '../errors/token-error.js'

/** Puts a copy under a key of a session, or takes it out if it is `undefined`. */
export function putCopy(session: Record<string, unknown>, key: string, copy: unknown): void {
  if (copy === undefined) delete session[key]
  else session[key] = copy
}

/** Returns the error for a session key that another `sessionTokens()` uses: for another client, or for another format of tokens. */
export function keyTakenError(key: string): ConfigurationError {
  return new ConfigurationError(
    `Two sessionTokens() for different clients or authorization servers keep their tokens under the same session key, \`${key}\`, ` +
      'or one with `encryptionKeys` or `keep` and one without. ' +
      "Give one of them another `sessionKey`, e.g. sessionKey: 'otherTokens'.",
  )
}

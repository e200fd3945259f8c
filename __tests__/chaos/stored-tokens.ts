import { seal } from '../../lib/sessions/codec/sealing.js'

/** The parts of a token set that the run looks at. */
export interface StoredTokens {
  readonly grantId: string
  readonly refreshToken?: string
}

/** What the texts of token sets are for, and the key that they are sealed with, if they are sealed. */
export interface TextsSettings {
  readonly clientId: string
  readonly tokenEndpoint: string
  readonly encryptionKey?: string
}

/** Reads the texts that the library writes to sessions and to the grant store. */
export type ReadStoredTokens = (text: unknown) => StoredTokens | undefined

/** The session key, which is the default. */
const SESSION_KEY = 'tokens'

/** Makes a reader of the texts of one client. A text of another form is an error of the run. */
export function storedTokensReader(settings: TextsSettings): ReadStoredTokens {
  const { clientId, encryptionKey, tokenEndpoint } = settings
  const sealed = encryptionKey && seal([encryptionKey], `${clientId} ${tokenEndpoint} ${SESSION_KEY}`)
  return (text) => {
    if (text === undefined) return undefined
    const opened = sealed ? sealed.open(String(text)) : String(text)
    if (opened === undefined) throw new Error('The tokens are not sealed with the key of this run.')
    return JSON.parse(opened) as StoredTokens
  }
}

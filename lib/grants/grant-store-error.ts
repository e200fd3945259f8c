import { redactCode } from '../errors/redact.js'
import { TokenError, type TokenErrorDetails } from '../errors/token-error.js'

/** Says what to check when Redis refuses a command, by the code in its reply. */
const CURES: Readonly<Record<string, string>> = {
  CLUSTERDOWN: 'Check the cluster: a part of it has no master.',
  LOADING: 'It is loading its data after a start.',
  MASTERDOWN: 'The client is connected to a replica without a master.',
  MISCONF: 'It cannot write to its disk. Check its log.',
  NOAUTH: 'Check its password.',
  NOPERM: 'Check the rights of its user (ACL).',
  OOM: 'Its memory is full. Check maxmemory.',
  READONLY: 'The client is connected to a replica.',
  WRONGPASS: 'Check its user and password.',
}

/** Makes the error of a grant store that failed. Its message shows the code of the cause; other words may hold tokens. */
export function grantStoreError(message: string, details: TokenErrorDetails): TokenError {
  const { cause, secrets = [] } = details
  if (cause instanceof TokenError) {
    return new TokenError('ERR_GRANT_STORE', `${message}. ${cause.message}`, details)
  }
  const { code: given, name, message: text } = (cause ?? {}) as Partial<NodeJS.ErrnoException>
  const reply = replyCodeOf(cause)
  const code = reply ?? (isCode(given) ? given : undefined)
  const shown =
    code === undefined ? '' : ` (${Object.hasOwn(CURES, code) ? code : redactCode(code, secrets)})`
  const cure = reply ? (CURES[reply] ?? 'Check its log.') : 'Check its connection.'
  const withCode = reply ? { ...details, cause: { name, message: text, code: reply } } : details
  return new TokenError('ERR_GRANT_STORE', `${message}${shown}. ${cure}`, withCode)
}

/** Returns the kind of a failure, as the beginning of a message. The message of a `TokenError` names it by itself. */
export function failureOf(cause: unknown): string {
  if (cause instanceof TokenError) return 'The grant store failed'
  return replyCodeOf(cause) ? 'The grant store refused a command' : 'The grant store cannot be reached'
}

/** Returns the code with which Redis begins the message of an error response, such as OOM or READONLY. */
function replyCodeOf(cause: unknown): string | undefined {
  const { message } = (cause ?? {}) as { message?: unknown }
  const [, code] = (typeof message === 'string' && /^([A-Z]{2,20}) /.exec(message)) || []
  return code
}

/** Whether a value is an error code, such as ECONNREFUSED. */
function isCode(code: unknown): code is string {
  return typeof code === 'string' && /^[A-Z][A-Z\d_]{2,31}$/.test(code)
}

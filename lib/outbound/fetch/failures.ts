import { inspect } from 'node:util'
import { bareError } from '../../errors.js'

/** How the platform's `fetch()` fails when there is no answer. */
export function failedFetch(cause: unknown): TypeError {
  return new TypeError('fetch failed', { cause })
}

/** What `fetch()` failed with, unless it shows the token: a dispatcher of the app's may quote what it was given to send. */
export function withoutToken(error: unknown, token: string | undefined): unknown {
  if (token === undefined) return error
  const shown = inspect(error, { depth: 20, showHidden: true, maxStringLength: null, maxArrayLength: null })
  if (!shown.includes(token)) return error
  const { cause = error } = error as { cause?: unknown }
  return failedFetch(bareError(cause, [token], true))
}

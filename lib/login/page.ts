import { reportError } from '../middleware/report-error.js'
import { returnPath } from '../middleware/return-path.js'
import { LoginError, type LoginErrorReason, wordsFor } from './login-error.js'
import { type KoaCarrier, type LoginRequest, type Reply, redirect } from './login-request.js'
import type { LoginParts } from './parts.js'

/** Makes the response to a login that did not succeed: a page that says what to do, or a path of the app. */
export async function failed(parts: LoginParts, request: LoginRequest, error: unknown): Promise<Reply> {
  if (!(error instanceof LoginError)) throw error
  const { onFailure } = parts.options
  if (!onFailure) report(request, error)
  const path = await onFailure?.(error, request.carrier as never)
  return typeof path === 'string' ? redirect(returnPath(path)) : failurePage(parts, error)
}

/**
 * The failures that are reported to the operator. All other failures are caused by the user, such as a login that was cancelled.
 */
const REPORTED: readonly LoginErrorReason[] = ['invalid', 'rejected', 'unavailable']

/** Reports a failure as `tokenErrors()` does. A request that fits no login, which any client can send, is not reported. */
function report({ carrier, carrierName }: LoginRequest, error: LoginError): void {
  const isOfLogin = error.returnTo !== undefined
  if (!isOfLogin || !REPORTED.includes(error.reason)) return
  reportError(error, carrierName === 'ctx' ? (carrier as KoaCarrier) : undefined)
}

/** Makes a page without scripts, styles and pictures. Of the request it shows only the path to return to. */
function failurePage({ options, paths }: LoginParts, { reason, returnTo, status }: LoginError): Reply {
  const { title, text } = wordsFor(reason)
  const query = returnTo === undefined ? '' : `?${new URLSearchParams({ returnTo })}`
  const again = paths.login === false ? '' : `<p><a href="${escaped(paths.login + query)}">Log in</a></p>`
  const body = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<h1>${title}</h1>
<p>${text}</p>
${again}
<p><a href="${escaped(options.afterLogout)}">Start page</a></p>
</html>
`
  return {
    status,
    headers: {
      'content-type': 'text/html; charset=utf-8',
      'cache-control': 'no-store',
      'content-security-policy':
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
      'referrer-policy': 'no-referrer',
      ...(status === 503 && { 'retry-after': '5' }),
    },
    body,
  }
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`)
}

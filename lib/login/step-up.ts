import type { IncomingMessage, ServerResponse } from 'node:http'
import { problemDetails } from '../errors/problem-details.js'
import { StepUpError } from '../errors/token-error.js'
import { beginLogin } from './begin.js'
import { type LoginMiddleware, partsOfLogin } from './login.js'
import {
  asksForPage,
  type ExpressCarrier,
  type KoaCarrier,
  type LoginRequest,
  type Reply,
  requestOfExpress,
  requestOfKoa,
  sendExpress,
  sendKoa,
} from './login-request.js'
import type { LoginParts } from './parts.js'
import { fitsIntoCookie, named, noteRequirement, wasJustMet } from './step-up-notes.js'

type Next = (error?: unknown) => void

/** The error handler of `stepUp()`: for Express (4 and 5), and as middleware for Koa (2 and 3). */
export interface StepUpHandler {
  (error: unknown, request: IncomingMessage, response: ServerResponse, next: Next): void
  (ctx: object, next: () => Promise<unknown>): Promise<void>
}

/**
 * Sends the user to the login when an API requires a stronger or a more recent one (RFC 9470), and then back to the page. The
 * login requests what the API requires, and its ID token is checked for that. Mount this handler behind the routes; on Koa, in
 * front of them. Other errors are passed on.
 *
 * A request of a script gets 401 and a problem body, whose `login` is the path to send the user to. If the API repeats its
 * requirement right after a login has met it, the error is passed on, so that no user goes in circles.
 *
 * @param middleware the middleware that `login()` has returned
 *
 * @example
 * const auth = login({ … })
 * app.use(auth)
 * app.get('/orders', requireTokens({ loginPath: '/login' }), handler)
 * app.use(stepUp(auth))
 */
export function stepUp(middleware: LoginMiddleware): StepUpHandler {
  const parts = partsOfLogin(middleware)

  // Express takes functions of four parameters for error handlers.
  function stepUpHandler(first: unknown, second: unknown, response?: ServerResponse, next?: Next) {
    if (next === undefined) return onKoa(parts, first as KoaCarrier, second as () => Promise<unknown>)
    if (!(first instanceof StepUpError) || response!.headersSent) return next(first)
    handle(parts, requestOfExpress(second as ExpressCarrier, response!), first).then(
      (reply) => (reply ? sendExpress(reply, response!) : next(first)),
      next,
    )
  }
  return stepUpHandler as StepUpHandler
}

async function onKoa(parts: LoginParts, ctx: KoaCarrier, next: () => Promise<unknown>): Promise<void> {
  try {
    await next()
  } catch (error) {
    const isOurs = error instanceof StepUpError && !ctx.res.headersSent
    const reply = isOurs ? await handle(parts, requestOfKoa(ctx), error) : undefined
    if (!reply) throw error
    sendKoa(reply, ctx)
  }
}

/** Makes the response; none if a login has just met the requirement. */
async function handle(
  parts: LoginParts,
  request: LoginRequest,
  error: StepUpError,
): Promise<Reply | undefined> {
  await parts.keys?.prepare()
  const requirement = named(error)
  if (wasJustMet(parts, request, requirement.name)) return undefined
  if (asksForPage(request)) return beginLogin(parts, request, pageOf(request), requirement)
  if (!fitsIntoCookie(requirement)) return undefined
  await noteRequirement(parts, request, requirement)
  const query = new URLSearchParams({ stepUp: requirement.name })
  return problemDetails(
    401,
    'Unauthorized',
    'Log in again: the API asks for a stronger or a more recent login.',
    {
      code: error.code,
      error: 'insufficient_user_authentication',
      ...(parts.paths.login !== false && { login: `${parts.paths.login}?${query}` }),
    },
  )
}

/**
 * Returns the page that the browser opens after the login. After a POST it is the page with the form (`Referer`), since the form is
 * not sent again; `undefined` if that page is not known or is on another host.
 */
function pageOf({ known, message, path }: LoginRequest): string | undefined {
  if (message.method === 'GET' || message.method === 'HEAD') return path
  const { referer } = message.headers
  const from = referer !== undefined && URL.canParse(referer) ? new URL(referer) : undefined
  return from && from.host === known.host ? from.pathname + from.search : undefined
}

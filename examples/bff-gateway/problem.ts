import type { ErrorRequestHandler, Response } from 'express'
import { StepUpError, TokenError } from 'session-token-manager'

/** The error for the page (RFC 9457). */
interface Problem {
  readonly status: number
  readonly title: string
  readonly detail?: string
  /** An API's requirements for the next login (RFC 9470), as `bearerProxy()` sends them. */
  readonly error?: 'insufficient_user_authentication'
  readonly max_age?: number | undefined
}

function sendProblem(res: Response, problem: Problem): void {
  res.status(problem.status).set('Cache-Control', 'no-store').type('application/problem+json')
  res.send(JSON.stringify(problem))
}

/** Sends the page a short error; the log has the details. */
export const problem: ErrorRequestHandler = (error, req, res, next) => {
  console.error(`${req.method} ${req.path}: ${error.code ?? error.name}: ${error.message}`)
  if (res.headersSent) return next(error)
  const status = error instanceof TokenError ? error.status : 502
  if (error instanceof StepUpError) {
    const detail = 'The API asks for a more recent login.'
    const stepUp = { error: 'insufficient_user_authentication', max_age: error.maxAge } as const
    sendProblem(res, { status, title: 'Unauthorized', detail, ...stepUp })
  } else if (status === 401) sendProblem(res, { status, title: 'Unauthorized', detail: 'Log in first.' })
  else {
    if (error.retryAfterMs !== undefined) res.set('Retry-After', String(Math.ceil(error.retryAfterMs / 1000)))
    sendProblem(res, { status, title: status === 503 ? 'Try again in a moment' : 'Something went wrong' })
  }
}

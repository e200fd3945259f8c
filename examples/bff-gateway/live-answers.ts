import type { RequestHandler, Response } from 'express'

/** Responses under way, by session: without this a stream would continue after the logout. */
export interface LiveAnswers {
  readonly track: RequestHandler
  /** Breaks off the responses to a session in this process. Other processes notice the logout at their next request. */
  end(sessionId: string): void
}

export function liveAnswers(): LiveAnswers {
  const answers = new Map<string, Set<Response>>()
  return {
    track({ sessionID }, res, next) {
      const ofSession = answers.get(sessionID) ?? new Set()
      answers.set(sessionID, ofSession.add(res))
      res.once('close', () => {
        ofSession.delete(res)
        if (ofSession.size === 0 && answers.get(sessionID) === ofSession) answers.delete(sessionID)
      })
      next()
    },
    end(sessionId) {
      for (const res of answers.get(sessionId) ?? []) res.destroy()
    },
  }
}

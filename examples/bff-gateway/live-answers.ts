import type { RequestHandler, Response } from 'express'

/** Answers that are under way, by session: a stream would go on past the logout otherwise. */
export interface LiveAnswers {
  readonly track: RequestHandler
  /** Breaks off what a session is still being sent. Those of this process: others learn of it at their next request. */
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

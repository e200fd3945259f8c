import type { IncomingMessage, ServerResponse } from 'node:http'
import type {} from 'express-session'
import { type Mount, mount } from '../mount.js'
import type { SessionTokensOptions } from '../options.js'
import { RequestTokens, type SessionTokens } from '../session-tokens.js'
import type { SessionCopy } from '../sessions/session-copy.js'

declare global {
  namespace Express {
    interface Request {
      /** The tokens of this request's session, put there by `sessionTokens()`. */
      tokens: SessionTokens
    }
  }
}

declare module 'express-session' {
  interface SessionData {
    /** The tokens of `session-token-manager`. Leave them to `req.tokens`. */
    tokens?: SessionCopy
  }
}

/** Express middleware (4 and 5) that can be waited for. */
export interface SessionTokensMiddleware {
  (request: IncomingMessage, response: ServerResponse, next: (error?: unknown) => void): void
  /**
   * Resolves when every refresh under way has ended and its result is stored. Call it after the HTTP server has
   * closed, before the process ends.
   */
  close(): Promise<void>
}

/**
 * Attaches a token manager to every request: `req.tokens`. Mount it behind express-session. Attaching does nothing
 * yet; a token is looked at when a handler asks for it.
 *
 * @throws `ConfigurationError` when an option is missing, unknown or contradicts another
 *
 * @example
 * app.use(session({ … }))
 * app.use(sessionTokens({
 *   issuer: 'https://idp.example.com',
 *   clientId: 'web',
 *   clientAuthentication: clientSecretBasic(process.env.CLIENT_SECRET),
 * }))
 */
export function sessionTokens(options: SessionTokensOptions): SessionTokensMiddleware {
  return middlewareOf(mount(options))
}

/** The middleware over parts that have been put together. */
export function middlewareOf(mounted: Mount): SessionTokensMiddleware {
  const { manager, property, sessions } = mounted

  function sessionTokensMiddleware(
    request: IncomingMessage & Record<PropertyKey, unknown>,
    _response: ServerResponse,
    next: (error?: unknown) => void,
  ): void {
    request[property] = new RequestTokens(mounted, sessions.of(request))
    next()
  }

  async function close(): Promise<void> {
    await manager.close()
    sessions.close()
  }

  return Object.assign(sessionTokensMiddleware as SessionTokensMiddleware, { close })
}

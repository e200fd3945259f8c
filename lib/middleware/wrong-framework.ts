import { ConfigurationError } from '../errors/token-error.js'

const OF_FRAMEWORKS = 'sessionTokens(), requireTokens(), refuseCrossOrigin() and tokenErrors()'

/** Returns the error of middleware for Express that another framework calls. */
export function notExpressError(): ConfigurationError {
  return new ConfigurationError(
    `This is not Express. On Koa import ${OF_FRAMEWORKS} from 'session-token-manager/koa'.`,
  )
}

/** Returns the error of middleware for Koa that another framework calls. */
export function notKoaError(): ConfigurationError {
  return new ConfigurationError(
    `This is not Koa. On Express import ${OF_FRAMEWORKS} from 'session-token-manager'.`,
  )
}

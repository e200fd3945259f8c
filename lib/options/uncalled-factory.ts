import { IncomingMessage } from 'node:http'
import { ConfigurationError } from '../errors/token-error.js'
import { ownValue } from './own-properties.js'

/** Throws when a factory gets a request or Koa's context in place of its options, as with `app.use(sessionTokens)`. */
export function rejectUncalledFactory(options: object, right: string): void {
  const request = ownValue(options, 'req') ?? options
  if (!(request instanceof IncomingMessage)) return
  throw new ConfigurationError(`A factory of middleware was mounted without being called. Call it: ${right}.`)
}

import { IncomingMessage } from 'node:http'
import { ConfigurationError } from './errors.js'
import { ownValue } from './own-properties.js'

/** `app.use(sessionTokens)`, for one, hands a request over where options should be, or Koa's context. */
export function refuseRequest(options: object, right: string): void {
  const request = ownValue(options, 'req') ?? options
  if (!(request instanceof IncomingMessage)) return
  throw new ConfigurationError(`A middleware was mounted that is made by a call. Call it: ${right}.`)
}

import type { ClientRequest } from 'node:http'
import { OwnError } from '../errors/token-error.js'

/** Makes a request fail whose server changes the protocol unasked (101): Node closes the connection then, and emits no error. */
export function failOnUpgrade(request: ClientRequest): void {
  request.once('upgrade', (_response, socket) => {
    socket.destroy()
    const error = new OwnError('The server has changed the protocol unasked (101).')
    request.emit('error', Object.assign(error, { code: 'ERR_UNEXPECTED_UPGRADE' }))
  })
}

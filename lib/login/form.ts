import type { IncomingMessage } from 'node:http'
import { OwnError } from '../errors/token-error.js'
import { LoginError } from './login-error.js'
import type { LoginRequest } from './login-request.js'

/** A callback has a code, a state and an issuer. */
const MAX_BYTES = 32_768

/** Resolves with the fields of a form in a request, as they came or as a body parser in front has read them. */
export async function formOf({ message, parsedBody }: LoginRequest): Promise<URLSearchParams> {
  if (!/^application\/x-www-form-urlencoded\s*(?:;|$)/i.test(message.headers['content-type'] ?? '')) {
    throw invalidForm('is not application/x-www-form-urlencoded')
  }
  if (!message.readableDidRead && !message.readableEnded) return new URLSearchParams(await textOf(message))
  if (typeof parsedBody === 'string') return new URLSearchParams(parsedBody)
  const fields = Object.entries((parsedBody ?? {}) as Record<string, unknown>)
  // A parser makes an array of a field that came twice.
  return new URLSearchParams(
    fields.flatMap(([name, value]) => [value].flat().map((each): [string, string] => [name, textIn(each)])),
  )
}

/** Returns the text of a field. A parser makes an object of `state[a]=1`, and `state[toString]=1` is one that has no text. */
function textIn(value: unknown): string {
  return typeof value === 'object' ? '' : String(value)
}

async function textOf(message: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of message as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > MAX_BYTES) throw invalidForm('is larger than 32 KB')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

function invalidForm(flaw: string): LoginError {
  return new LoginError('invalid', { cause: new OwnError(`The form of the callback ${flaw}.`) })
}

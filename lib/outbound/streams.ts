import { PassThrough, pipeline, type Readable } from 'node:stream'

/**
 * Returns another stream with the same bytes. The stream of a response would give its reader the request, and so the token. If the
 * source fails, the new stream fails. If the new stream is destroyed, the source is destroyed, too.
 */
export function detached(source: Readable, clean: (error: Error) => unknown = (error) => error): Readable {
  const stream = new PassThrough({
    destroy: (error, done) => done(error && (clean(error) as Error)),
  })
  pipeline(source, stream, () => {})
  return stream
}

/** Calls back when a stream closes; at once if it is destroyed already, since its `close` may be over. */
export function whenClosed(stream: Readable, callback: () => void): void {
  if (stream.destroyed) callback()
  else stream.once('close', callback)
}

/** Whether data is a stream of Node or of the web. */
export function isStream(data: unknown): boolean {
  const { pipe, getReader } = (data ?? {}) as { pipe?: unknown; getReader?: unknown }
  return typeof pipe === 'function' || typeof getReader === 'function'
}

import { PassThrough, pipeline, type Readable } from 'node:stream'

/**
 * Returns another stream with the same bytes: that of a response leads to the request and its token. A failure of the source
 * reaches the reader of this one, and the source is destroyed with it.
 */
export function detached(source: Readable, clean: (error: Error) => unknown = (error) => error): Readable {
  const stream = new PassThrough({
    destroy: (error, done) => done(error && (clean(error) as Error)),
  })
  pipeline(source, stream, () => {})
  return stream
}

/** Whether data is a stream of Node or of the web. */
export function isStream(data: unknown): boolean {
  const { pipe, getReader } = (data ?? {}) as { pipe?: unknown; getReader?: unknown }
  return typeof pipe === 'function' || typeof getReader === 'function'
}

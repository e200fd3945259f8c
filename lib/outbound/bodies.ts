import type { ReadableStreamReadResult, UnderlyingByteSource } from 'node:stream/web'

/** The methods by which a `Response` is read whole. */
const READERS = ['arrayBuffer', 'blob', 'bytes', 'formData', 'json', 'text'] as const

/** Returns a body of `fetch()`, or a `Response`, whose failures are clean. Anything else is returned as it is. */
export function cleanBody(body: unknown, clean: (error: unknown) => unknown): unknown {
  if (body instanceof ReadableStream) return cleanStream(() => body, clean)
  return body instanceof Response ? cleanResponse(body, clean) : body
}

/**
 * Returns the response. If its body fails while it is read, it fails with a clean error, however it is read. A method that reads
 * the whole body reads it directly.
 */
export function cleanResponse(response: Response, clean: (error: unknown) => unknown): Response {
  const { body, clone } = response
  const properties: PropertyDescriptorMap = {
    clone: { value: () => cleanResponse(clone.call(response), clean) },
  }
  for (const name of READERS) {
    const read = (response as Partial<Response & { bytes(): Promise<unknown> }>)[name]
    if (read) properties[name] = { value: () => cleanly(read.call(response), clean) }
  }
  if (body instanceof ReadableStream) {
    let cleaned: ReadableStream | undefined
    // A clone takes the place of the body that was there before.
    const present = () => Reflect.get(Object.getPrototypeOf(response), 'body', response) as ReadableStream
    properties.body = {
      get: () => {
        cleaned ??= cleanStream(present, clean, 'bytes')
        return cleaned
      },
    }
  }
  return Object.defineProperties(response, configurable(properties))
}

function configurable(properties: PropertyDescriptorMap): PropertyDescriptorMap {
  for (const property of Object.values(properties)) property.configurable = true
  return properties
}

async function cleanly<T>(reading: Promise<T>, clean: (error: unknown) => unknown): Promise<T> {
  try {
    return await reading
  } catch (error) {
    throw clean(error)
  }
}

/** Returns another stream with the same chunks. It reads the source only when it is read itself. */
function cleanStream(
  source: () => ReadableStream,
  clean: (error: unknown) => unknown,
  type?: 'bytes',
): ReadableStream {
  let reader: ReadableStreamDefaultReader | undefined
  const read = async (): Promise<ReadableStreamReadResult<Uint8Array>> => {
    reader ??= source().getReader()
    const result = await cleanly(reader.read(), clean)
    // A stream of bytes takes no chunk without any.
    return type && !result.done && result.value.byteLength === 0 ? read() : result
  }
  const underlying = {
    ...(type && { type }),
    async pull(controller) {
      const { done, value } = await read()
      if (!done) return controller.enqueue(value)
      controller.close()
      controller.byobRequest?.respond(0)
    },
    cancel: (reason: unknown) => (reader ?? source()).cancel(reason),
  } as UnderlyingByteSource
  return new ReadableStream(underlying, { highWaterMark: 0 })
}

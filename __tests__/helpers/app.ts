import type { RequestListener } from 'node:http'
import { createRequire } from 'node:module'
import express5 from 'express'
import { serve } from './http-server.js'

// Express 4 brings no types of its own; what is used here is the same in both.
const express4 = createRequire(import.meta.url)('express4') as typeof express5

/** The Express versions that the library supports, for `describe.each`. */
export const expressVersions: [name: string, express: typeof express5][] = [
  ['Express 5', express5],
  ['Express 4', express4],
]

/** An application that listens. */
export interface RunningApp {
  readonly url: string
  /** Stops listening and ends every connection. */
  close(): Promise<void>
}

/** Listens on a free port of 127.0.0.1 with the application that `buildApp` returns: Express, or `koa.callback()`. */
export async function startApp(
  buildApp: (url: string) => RequestListener | Promise<RequestListener>,
): Promise<RunningApp> {
  const server = await serve(buildApp)
  return { url: server.url, close: server.down }
}

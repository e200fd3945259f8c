import { get } from 'node:http'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { setImmediate, setTimeout } from 'node:timers/promises'
import type { FrameworkVisit } from './framework-driver.js'

type Way = (visit: FrameworkVisit, call: () => Promise<string>, url: string) => Promise<string>

/** Ways from a handler to a call further down; there is another server at the URL. */
export const WAYS: [string, Way][] = [
  ['awaits', async (_, call) => (await Promise.all([1, 2].map(async () => call())))[1]!],
  ['a timer', (_, call) => setTimeout(1).then(call)],
  [
    'turns of the event loop',
    (_, call) =>
      setImmediate()
        .then(() => setImmediate())
        .then(call),
  ],
  ['the next tick', (_, call) => new Promise((resolve) => process.nextTick(() => resolve(call())))],
  [
    'the end of a stream',
    (_, call) => {
      const stream = Readable.from(['a', 'b']).resume()
      return new Promise((resolve) => stream.on('end', () => resolve(call())))
    },
  ],
  [
    'a stream that is read',
    async (_, call) => {
      for await (const _chunk of Readable.from(['a', 'b'])) await call()
      return call()
    },
  ],
  [
    'the events of another answer',
    (_, call, url) =>
      new Promise((resolve) => {
        get(url, (answer) => answer.resume().on('end', () => resolve(call())))
      }),
  ],
  [
    'another answer that is read',
    (_, call, url) =>
      fetch(url)
        .then((answer) => text(answer.body!))
        .then(call),
  ],
  ['the tokens of the request', ({ tokens }, call) => tokens.getAccessToken().then(call)],
]

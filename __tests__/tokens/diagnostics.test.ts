import { tracingChannel } from 'node:diagnostics_channel'
import { inspect } from 'node:util'
import { describe, expect, it } from '@jest/globals'
import { traceRefresh } from '../../lib/tokens/diagnostics.js'

const CHANNEL = 'session-token-manager:refresh'
const outcome = { accessToken: { token: 'secret' }, fresh: true }

/** What the subscribers of a refresh are told, as text, with the name of the channel. */
async function told(run: () => Promise<typeof outcome>): Promise<[string, string][]> {
  const messages: [string, string][] = []
  const note = (name: string) => (message: unknown) => messages.push([name, inspect(message, { depth: 9 })])
  const subscribers = {
    ...{ start: note('start'), end: note('end'), asyncStart: note('asyncStart') },
    ...{ asyncEnd: note('asyncEnd'), error: note('error') },
  }
  const channel = tracingChannel(CHANNEL)
  channel.subscribe(subscribers)
  await traceRefresh({ grantId: 'grant', tenant: 'acme' }, run).catch(() => {})
  channel.unsubscribe(subscribers)
  return messages
}

describe('traceRefresh(trace, run)', () => {
  it('S95 shows the refresh and whether its token is fresh, and not the token', async () => {
    const messages = await told(async () => outcome)
    expect(messages.map(([name]) => name)).toEqual(['start', 'end', 'asyncStart', 'asyncEnd'])
    for (const [, text] of messages) expect(text).toContain("grantId: 'grant'")
    expect(messages[3]![1]).toContain('fresh: true')
    expect(JSON.stringify(messages)).not.toContain('secret')
  })

  it('S95 shows the error of a failed refresh', async () => {
    const messages = await told(() => Promise.reject(new Error('it is down')))
    expect(messages.map(([name]) => name)).toEqual(['start', 'end', 'error', 'asyncStart', 'asyncEnd'])
    expect(messages[2]![1]).toContain('it is down')
  })

  it('returns what the refresh returns, or throws what it throws, whether or not something listens', async () => {
    const failure = new Error('it is down')
    const ways = async () => [
      await traceRefresh({ grantId: 'grant' }, async () => outcome),
      await traceRefresh({ grantId: 'grant' }, () => Promise.reject(failure)).catch((error) => error),
    ]
    const expected = [outcome, failure]
    for (const results of [await ways(), await listening(ways)]) {
      expect(results[0]).toBe(expected[0])
      expect(results[1]).toBe(expected[1])
    }
  })

  it('S95 is the refresh itself if nothing listens', () => {
    const promise = Promise.resolve(outcome)
    expect(traceRefresh({ grantId: 'grant' }, () => promise)).toBe(promise)
  })
})

async function listening<T>(work: () => Promise<T>): Promise<T> {
  const subscribers = { asyncEnd: () => {} }
  const channel = tracingChannel(CHANNEL)
  channel.subscribe(subscribers as never)
  try {
    return await work()
  } finally {
    channel.unsubscribe(subscribers as never)
  }
}

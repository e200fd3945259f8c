import type { Measured } from './contenders/calls.js'
import { PROOF, SIGNATURE } from './contenders/work.js'
import type { Benchmark } from './harness/benchmark.js'
import { startServer } from './harness/servers.js'

/** The cases, and what they may take, in nanoseconds. */
const REACH: Readonly<Record<string, number>> = {
  'a request that never asks': 200,
  'getAccessToken(), first in a request': 1000,
  'getAccessToken(), again': 1000,
}

/** How many bare signatures a DPoP proof may cost. */
const MOST_SIGNATURES = 3

export const benchmark: Benchmark = {
  name: 'calls',
  title: 'What the calls cost while the token is valid',
  async run({ quick, progress }) {
    progress('measuring')
    // The young generation has its usual size from the beginning, so no collection falls into a batch whose bytes are counted.
    const flags = ['--expose-gc', '--min-semi-space-size=16']
    const server = await startServer(new URL('./contenders/calls.ts', import.meta.url).href, [], {}, flags)
    const measured = await server.ask<readonly Measured[]>(
      'measure',
      quick ? { rounds: 1, ms: 20 } : { rounds: 7, ms: 300 },
    )
    const nsOf = (name: string) => measured.find(({ call }) => call === name)!.ns
    const ratio = nsOf(PROOF) / nsOf(SIGNATURE)
    return {
      rows: measured.map(({ call, ns, bytes }) => ({ call, 'CPU ns': ns, bytes })),
      reach: measured
        .flatMap(({ call, ns }) => {
          const most = REACH[call]
          if (most === undefined) return []
          return [{ text: `${call}: ${Math.round(ns)} ns, at most ${most} ns`, holds: ns <= most }]
        })
        .concat({
          text: `${PROOF}: ${ratio.toFixed(2)} times ${SIGNATURE}, at most ${MOST_SIGNATURES} times`,
          holds: ratio <= MOST_SIGNATURES,
        }),
      chart: {
        kind: 'bars',
        title: 'Calls in a request with a valid token',
        unit: 'nanoseconds of CPU time, median',
        labels: measured.map(({ call }) => call),
        series: [{ name: 'ns', values: measured.map(({ ns }) => ns) }],
        highlighted: measured.map(({ call }) => call).filter((call) => call in REACH),
      },
      notes: [
        'CPU time and allocated bytes of one call, awaited, in batches of 512 calls; medians of rounds.',
        'Each call is on a new object with the properties of a request that count, and with a session as express-session makes it. The cost of making them is taken off. The last call is on one request.',
        'A request that never asks: the middleware, less a middleware that sets a property of the request.',
        'With DPoP each call to an API costs a proof, besides what it costs anyway. A call without DPoP costs none of it.',
        'An async function that does nothing is the least that an awaited call costs.',
      ],
    }
  },
}

import { afterAll, beforeAll, describe, it, jest } from '@jest/globals'
import fc, { type Scheduler } from 'fast-check'
import type { RefreshFault } from '../helpers/model-authorization-server.js'
import { type Action, type Command, ModelWorld } from '../helpers/model-world.js'

/**
 * `npm test` plays the same interleavings each time. For others, and for a long run by hand: `INTERLEAVINGS=20000` with
 * an `INTERLEAVINGS_SEED`; with its `INTERLEAVINGS_PATH` a failure is repeated.
 */
const { INTERLEAVINGS, INTERLEAVINGS_SEED, INTERLEAVINGS_PATH } = process.env

const action = (actions: Partial<Record<Action, number>>) =>
  fc.oneof(
    ...Object.entries(actions).map(([value, weight]) => ({
      weight,
      arbitrary: fc.constant(value as Action),
    })),
  )

const harmless: Partial<Record<Action, number>> = {
  token: 6,
  'refuse the token': 4,
  pause: 3,
  'time passes': 2,
  write: 4,
  save: 1,
  reload: 1,
  regenerate: 1,
}
const anything: Partial<Record<Action, number>> = {
  ...harmless,
  revoke: 1,
  clear: 1,
  destroy: 1,
  'log in': 1,
  'log in as another': 1,
}

/** Requests that are under way at the same time. */
const batch = (actions: Partial<Record<Action, number>>): fc.Arbitrary<Command[]> =>
  fc.array(
    fc.record({
      browser: fc.integer({ min: 0, max: 1 }),
      actions: fc.array(action(actions), { minLength: 1, maxLength: 4 }),
    }),
    { minLength: 1, maxLength: 5 },
  )

const scenario = (actions: Partial<Record<Action, number>>) =>
  fc.record({
    resave: fc.boolean(),
    touchWrites: fc.boolean(),
    refreshFaults: fc.array(
      fc.oneof(
        { weight: 6, arbitrary: fc.constant<RefreshFault>('none') },
        { weight: 1, arbitrary: fc.constantFrom<RefreshFault[]>('lost before', 'busy', 'lost after') },
      ),
      { maxLength: 4 },
    ),
    storeFaults: fc.array(
      fc.oneof({ weight: 6, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
      { maxLength: 8 },
    ),
    batches: fc.array(
      fc.record({
        commands: batch(actions),
        restart: fc.constantFrom<('never' | 'at once' | 'after the next request')[]>(
          'never',
          'at once',
          'after the next request',
        ),
      }),
      { minLength: 1, maxLength: 3 },
    ),
  })

type Scenario = ReturnType<typeof scenario> extends fc.Arbitrary<infer T> ? T : never

async function play(scheduler: Scheduler, { batches, ...options }: Scenario): Promise<void> {
  const world = new ModelWorld({ ...options, step: (what) => scheduler.schedule(Promise.resolve(), what) })
  const hold = () => {
    if (world.violations.length > 0) throw new Error(world.violations.join('\n'))
  }
  // The browsers log in one after the other, undisturbed.
  const faultless = async (work: Promise<void>) => {
    await settle(scheduler, work)
    hold()
  }
  const faults = options.storeFaults.length > 0
  for (const browser of [0, 1]) {
    await faultless(world.serve({ browser, actions: ['log in'] }))
  }
  world.beginFaults()
  for (const [index, { commands, restart }] of batches.entries()) {
    await settle(
      scheduler,
      Promise.all(commands.map((command) => world.serve(command))).then(() => {}),
    )
    world.checkAtRest()
    hold()
    if (restart === 'at once' && !faults) world.restart()
    if (index < batches.length - 1) continue
    world.endFaults()
    for (const time of ['first', 'second']) {
      for (const browser of [0, 1]) {
        await faultless(world.checkNextRequest(browser, { refresh: time === 'second' }))
      }
      world.checkAtRest()
      hold()
      if (time === 'first' && restart === 'after the next request' && !world.logoutFailed) world.restart()
    }
  }
}

/** Lets one thing happen after another, each when all that follows from the one before has happened. */
async function settle(scheduler: Scheduler, work: Promise<void>): Promise<void> {
  let failure: { error: unknown } | undefined
  work.catch((error) => {
    failure = { error }
  })
  for (;;) {
    await new Promise((resolve) => setImmediate(resolve))
    if (failure) throw failure.error
    if (scheduler.count() === 0) return
    await scheduler.waitNext(1)
  }
}

const parameters = (runs: number) => ({
  numRuns: INTERLEAVINGS === undefined ? runs : Number(INTERLEAVINGS),
  seed: Number(INTERLEAVINGS_SEED ?? 1),
  ...(INTERLEAVINGS_PATH !== undefined && { path: INTERLEAVINGS_PATH }),
})

describe('whatever happens in whatever order', () => {
  // Only the scheduler says what comes after what, however busy the machine is.
  beforeAll(() => void jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick', 'queueMicrotask'] }))
  afterAll(() => void jest.useRealTimers())

  it('a refresh logs no user out, and no change of the app is lost', async () => {
    const property = fc.asyncProperty(fc.scheduler(), scenario(harmless), play)
    await fc.assert(property, parameters(80))
  }, 3_600_000)

  it('a user who has logged out stays logged out, and a user who has logged in stays logged in', async () => {
    const property = fc.asyncProperty(fc.scheduler(), scenario(anything), play)
    await fc.assert(property, parameters(80))
  }, 3_600_000)
})

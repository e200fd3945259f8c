import { expect, it } from '@jest/globals'
import { BoundedQueue } from '../../lib/concurrency/bounded-queue.js'

/** A queue whose entries note when they begin. */
function queueOf(limit: number) {
  const queue = new BoundedQueue(limit)
  const begun: string[] = []
  const enter = (name: string, isUrgent = false) => queue.enter(isUrgent).then(() => void begun.push(name))
  const turn = () => new Promise((resolve) => setImmediate(resolve))
  return { queue, begun, enter, turn }
}

it('runs as many at a time as the limit says, and the others in order', async () => {
  const { queue, begun, enter, turn } = queueOf(2)
  for (const name of ['a', 'b', 'c', 'd']) void enter(name)
  await turn()
  expect([begun, queue.hasRoom]).toEqual([['a', 'b'], false])
  queue.leave()
  await turn()
  expect(begun).toEqual(['a', 'b', 'c'])
  queue.leave()
  await turn()
  expect(begun).toEqual(['a', 'b', 'c', 'd'])
  queue.leave()
  expect(queue.hasRoom).toBe(true)
})

it('lets all waiting work run beyond the limit, and keeps to the limit afterwards', async () => {
  const { queue, begun, enter, turn } = queueOf(1)
  for (const name of ['a', 'b', 'c']) void enter(name)
  queue.release()
  await turn()
  expect(begun).toEqual(['a', 'b', 'c'])
  queue.leave()
  queue.leave()
  expect(queue.hasRoom).toBe(false)
  queue.leave()
  expect(queue.hasRoom).toBe(true)
})

it('runs urgent work at once, beyond the limit, and no other work until there is room', async () => {
  const { queue, begun, enter, turn } = queueOf(1)
  for (const name of ['a', 'b']) void enter(name)
  void enter('urgent', true)
  await turn()
  expect(begun).toEqual(['a', 'urgent'])
  queue.leave()
  await turn()
  expect(begun).toEqual(['a', 'urgent'])
  queue.leave()
  await turn()
  expect(begun).toEqual(['a', 'urgent', 'b'])
})

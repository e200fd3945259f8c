import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, it, jest } from '@jest/globals'
import { patientTimer } from '../../lib/concurrency/patient-timer.js'

afterEach(() => {
  jest.useRealTimers()
})

/** Stands still, as a process does that was stopped or collects garbage. */
function standStill(ms: number): void {
  const until = Date.now() + ms
  while (Date.now() < until);
}

it('calls the function after the time', () => {
  jest.useFakeTimers()
  const call = jest.fn()
  patientTimer(1_000, call)
  jest.advanceTimersByTime(999)
  expect(call).not.toHaveBeenCalled()
  jest.advanceTimersByTime(1)
  expect(call).toHaveBeenCalledTimes(1)
})

it('calls nothing after it was stopped', () => {
  jest.useFakeTimers()
  const call = jest.fn()
  patientTimer(1_000, call)()
  jest.advanceTimersByTime(10_000)
  expect(call).not.toHaveBeenCalled()
})

it('lets a process that stood still read the response that has arrived in the meantime', async () => {
  const server = createServer((_, response) => response.end('the response'))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const order: string[] = []
  await fetch(`http://127.0.0.1:${port}`)
  const stop = patientTimer(100, () => order.push('timer'))
  const response = fetch(`http://127.0.0.1:${port}`).then((it) => it.text())
  await once(server, 'request')
  // The response is on its way to this process, and the timer is due.
  standStill(400)
  order.push(await response)
  stop()
  server.close()
  server.closeAllConnections()
  expect(order).toEqual(['the response'])
})

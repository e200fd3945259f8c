import { once } from 'node:events'
import { type ClientRequest, type IncomingMessage, request as requestOf } from 'node:http'
import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { expect, it } from '@jest/globals'
import { bodyOf } from '../../lib/proxy/body.js'
import { serve } from '../helpers/http-server.js'

const ignore = () => {}

it('S100 what comes between two attempts, while a proof is made, belongs to the second one', async () => {
  let arrived!: (request: IncomingMessage) => void
  const arrival = new Promise<IncomingMessage>((resolve) => {
    arrived = resolve
  })
  const site = await serve(() => arrived)
  const sent = requestOf(site.url, { method: 'POST' })
  sent.on('error', ignore).write('the beginning, ')
  const source = await arrival
  const body = bodyOf(source, {}, 20)

  const first = new PassThrough()
  body.sendTo(first as unknown as ClientRequest, ignore)
  expect(String((await once(first, 'data'))[0])).toBe('the beginning, ')
  first.destroy()
  sent.end('and more than is kept')
  await once(source, 'pause')
  expect(body.isKept).toBe(true)

  const second = new PassThrough()
  body.sendTo(second as unknown as ClientRequest, ignore)
  expect(await text(second)).toBe('the beginning, and more than is kept')
  await site.down()
})

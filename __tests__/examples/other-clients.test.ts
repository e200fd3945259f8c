import {
  type Client,
  makeGenericClientConstructor,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type sendUnaryData,
  status,
  credentials as transport,
} from '@grpc/grpc-js'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { apolloFor, gotFor, grpcCall, ORDERS, openapiFetchFor } from '../../examples/other-clients.js'
import type { SessionTokens } from '../../lib/index.js'
import { HOUR_MS, OutboundSite } from '../helpers/outbound-site.js'
import { json } from '../helpers/wire-server.js'

const outbound = new OutboundSite()
const orders = ['tea']

/** A service with one method, whose messages are JSON. */
const SERVICE = {
  orders: {
    path: '/shop.Orders/List',
    requestStream: false,
    responseStream: false,
    requestSerialize: toJson,
    requestDeserialize: fromJson,
    responseSerialize: toJson,
    responseDeserialize: fromJson,
  },
}
let grpc: Server
let grpcClient: Client & Record<'orders', (...args: unknown[]) => never>

beforeAll(async () => {
  grpc = new Server()
  grpc.addService(SERVICE, {
    orders(call: ServerUnaryCall<object, object>, done: sendUnaryData<object>) {
      const [authorization = ''] = call.metadata.get('authorization')
      if (outbound.accepted(String(authorization).slice('Bearer '.length))) done(null, { orders })
      else done({ code: status.UNAUTHENTICATED })
    },
  })
  const port = await new Promise<number>((resolve, reject) => {
    grpc.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    )
  })
  const OrdersClient = makeGenericClientConstructor(SERVICE, 'Orders')
  grpcClient = new OrdersClient(`127.0.0.1:${port}`, transport.createInsecure()) as never
})
afterAll(() => {
  grpcClient.close()
  grpc.forceShutdown()
})

describe.each<[string, (tokens: SessionTokens) => Promise<unknown>]>([
  [
    'openapi-fetch',
    async (tokens) => (await openapiFetchFor(tokens, outbound.api.url).GET('/orders')).data?.orders,
  ],
  [
    'got',
    async (tokens) => (await gotFor(tokens, outbound.api.url)('orders').json<{ orders: string[] }>()).orders,
  ],
  [
    'Apollo Client',
    async (tokens) => {
      const { data } = await apolloFor(tokens, outbound.api.url).query<{ orders: string[] }>({
        query: ORDERS,
      })
      return data?.orders
    },
  ],
  [
    'gRPC',
    async (tokens) =>
      (
        await grpcCall<{ orders: string[] }>(tokens, (metadata, done) =>
          grpcClient.orders({}, metadata, done),
        )
      ).orders,
  ],
])('%s', (_name, list) => {
  it('past an expiry: 50 requests at once, one refresh', async () => {
    await serve(list)
    outbound.site.clock.advance(2 * HOUR_MS)
    const answers = await Promise.all(Array.from({ length: 50 }, () => outbound.browser.get('/orders')))
    expect(answers.map(({ json }) => json)).toEqual(Array.from({ length: 50 }, () => orders))
    expect(outbound.refreshes()).toBe(1)
  })

  it('an API that refuses the token: one refresh, and the call is repeated', async () => {
    await serve(list)
    await outbound.refuseThePresentToken()
    expect((await outbound.browser.get('/orders')).json).toEqual(orders)
    expect(outbound.refreshes()).toBe(1)
  })
})

async function serve(list: (tokens: SessionTokens) => Promise<unknown>): Promise<void> {
  outbound.answer = ({ path }, response) =>
    json(response, path === '/orders' ? { orders } : { data: { orders } })
  outbound.site.handle('/orders', ({ tokens }) => list(tokens))
}

function toJson(message: unknown): Buffer {
  return Buffer.from(JSON.stringify(message))
}

function fromJson(bytes: Buffer): object {
  return JSON.parse(bytes.toString())
}

import { AsyncResource } from 'node:async_hooks'
import { EventEmitter, once } from 'node:events'
import { createServer, type IncomingMessage, ServerResponse } from 'node:http'
import {
  type ClientHttp2Session,
  connect as connectHttp2,
  createServer as createHttp2Server,
} from 'node:http2'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { describe, expect, it } from '@jest/globals'
import { ConfigurationError, sessionAxios, sessionFetch } from '../../lib/index.js'
import { whileServing } from '../../lib/outbound/ambient.js'
import type { OutboundTokens } from '../../lib/tokens/token-source.js'
import { describeAmbient } from '../contract/ambient.js'
import { describeAmbientLoad } from '../contract/ambient-load.js'
import { frameworks } from '../helpers/frameworks.js'
import { createGate } from '../helpers/gate.js'
import { outboundClients } from '../helpers/outbound-clients.js'

for (const framework of frameworks.filter(({ name }) => ['Express 5', 'Koa 3'].includes(name))) {
  describeAmbient(framework)
  describeAmbientLoad(framework)
}

const baseURL = 'http://127.0.0.1:1'

/** Tokens that say who has been asked. */
const tokensOf = (name: string): OutboundTokens => ({
  tokenToSend: () => Promise.reject(new Error(name)),
  secrets: () => [],
})
const request = (name: string, property = 'tokens', response: object = new EventEmitter()) => ({
  property,
  tokens: tokensOf(name),
  request: {} as IncomingMessage,
  response: response as ServerResponse,
})

describe.each(outboundClients)('the $name of the whole app', (client) => {
  const asked = (property?: string) =>
    client
      .ambient({ baseURL, ...(property !== undefined && { property }) })({ url: '/' })
      .catch(({ message }: Error) => message)

  it('has the tokens of the innermost mount of a property', async () => {
    const response = new EventEmitter()
    const answers = await whileServing(request('app', 'tokens', response), () =>
      whileServing(request('path', 'tokens', response), () => asked()),
    )
    expect(answers).toBe('path')
  })

  it('has the tokens of an outer mount of the same request', async () => {
    const response = new EventEmitter()
    const answers = await whileServing(request('outer', 'outer', response), () =>
      whileServing(request('inner', 'inner', response), () => Promise.all([asked('outer'), asked('inner')])),
    )
    expect(answers).toEqual(['outer', 'inner'])
  })

  it('has no tokens of the request that another one was made in', async () => {
    const answers = await whileServing(request('outer', 'outer'), () =>
      whileServing(request('inner', 'inner'), () => Promise.all([asked('outer'), asked('inner')])),
    )
    expect(answers).toEqual([expect.stringContaining("has no tokens under 'outer'"), 'inner'])
  })

  it('in a queue that requests share has those of the request that drives it, unless it is bound', async () => {
    const queue: (() => Promise<unknown>)[] = []
    whileServing(request('alice'), () => {
      queue.push(() => asked(), AsyncResource.bind(() => asked()) as () => Promise<unknown>)
    })
    const answers = await whileServing(request('bob'), () => Promise.all(queue.map((work) => work())))
    expect(answers).toEqual(['bob', 'alice'])
  })
})

describe('a request is over', () => {
  type Handler = (request: IncomingMessage, response: ServerResponse) => void

  /** What calls of both clients say that are made in a request, before and after something has happened to it. */
  async function calls(
    serve: (handler: Handler) => Promise<{ close(): unknown }>,
    happening: (request: IncomingMessage, response: ServerResponse) => unknown,
  ): Promise<string[]> {
    const made = outboundClients.map((client) => client.ambient({ baseURL }))
    const all = () => Promise.all(made.map((call) => call({ url: '/' }).catch(({ message }) => message)))
    let close = (): unknown => undefined
    const told = new Promise<string[][]>((resolve, reject) => {
      const handler: Handler = (request, response) => {
        const serving = { property: 'tokens', tokens: tokensOf('alice'), request, response }
        whileServing(serving, async () => {
          const before = await all()
          await happening(request, response)
          resolve([before, await all()])
        }).catch(reject)
      }
      serve(handler).then((server) => {
        close = () => server.close()
      }, reject)
    })
    const [before, after] = await told
    await close()
    expect(before).toEqual(['alice', 'alice'])
    return after!
  }
  const isOver = expect.stringMatching(/^This call came after its request had ended/)

  /** Serves what a client sends over a connection of its own. */
  const http1 = (sent: string, leaving?: Promise<unknown>) => async (handler: Handler) => {
    const server = createServer(handler).listen(0, '127.0.0.1')
    server.on('upgrade', (request, socket) => {
      const response = new ServerResponse(request)
      response.assignSocket(socket as Socket)
      handler(request, response)
    })
    await once(server, 'listening')
    const client = connect((server.address() as AddressInfo).port, '127.0.0.1').on('error', () => {})
    client.write(sent)
    leaving?.then(() => client.destroy())
    return {
      close() {
        client.destroy()
        server.close()
      },
    }
  }
  const GET = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'

  it('when the app ends the response, though a layer in front puts that off', async () => {
    const putOff = async (handler: Handler) =>
      http1(GET)((request, response) => {
        const end = response.end.bind(response)
        response.end = (() => setImmediate(() => end())) as never
        handler(request, response)
      })
    const after = await calls(putOff, (_request, response) => {
      response.end()
      expect(response.writableEnded).toBe(false)
    })
    expect(after).toEqual([isOver, isOver])
  })

  it('when its client has gone', async () => {
    const leaving = createGate()
    const after = await calls(http1(GET, leaving.pass()), async (_request, response) => {
      const closed = once(response, 'close')
      leaving.release()
      await closed
    })
    expect(after).toEqual([isOver, isOver])
  })

  it('when its client has gone before its turn to be answered came', async () => {
    const leaving = createGate()
    let count = 0
    const second = async (handler: Handler) =>
      http1(
        GET + GET,
        leaving.pass(),
      )((request, response) => {
        if (count++ === 1) handler(request, response)
      })
    const after = await calls(second, async (request, response) => {
      const closed = once(request.socket, 'close')
      leaving.release()
      await closed
      // Its turn never came. Node 24 says all the same that it is closed, Node 20 does not.
      expect(response.socket).toBeNull()
    })
    expect(after).toEqual([isOver, isOver])
  })

  it('when the socket that it was upgraded to is closed', async () => {
    const leaving = createGate()
    const upgrade = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'
    const after = await calls(http1(upgrade, leaving.pass()), async ({ socket }, response) => {
      response.detachSocket(socket)
      const closed = once(
        socket.resume().once('end', () => socket.end()),
        'close',
      )
      leaving.release()
      await closed
    })
    expect(after).toEqual([isOver, isOver])
  })

  it.each(['ended', 'left'])('when it is one of HTTP/2, and was %s', async (ending) => {
    let session: ClientHttp2Session | undefined
    const http2 = async (handler: Handler) => {
      const server = createHttp2Server(handler as never).listen(0, '127.0.0.1')
      await once(server, 'listening')
      session = connectHttp2(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
      session.on('error', () => {})
      const stream = session.request().on('error', () => {})
      stream.end()
      return {
        close() {
          session!.destroy()
          server.close()
        },
      }
    }
    const after = await calls(http2, async (_request, response) => {
      const closed = once(response, 'close')
      if (ending === 'ended') response.end()
      else session!.destroy()
      await closed
    })
    expect(after).toEqual([isOver, isOver])
  })

  it('when its client has gone before it was served', async () => {
    const { request, response } = await new Promise<{ request: IncomingMessage; response: ServerResponse }>(
      (resolve) => {
        http1(GET)((request, response) => {
          request.socket.destroy()
          response.once('close', () => resolve({ request, response }))
        }).then(({ close }) => setImmediate(close))
      },
    )
    const serving = { property: 'tokens', tokens: tokensOf('alice'), request, response }
    const after = await whileServing(serving, () =>
      Promise.all(
        outboundClients.map((client) =>
          client
            .ambient({ baseURL })({ url: '/' })
            .catch(({ message }) => message),
        ),
      ),
    )
    expect(after).toEqual([isOver, isOver])
  })
})

describe.each([
  ['sessionAxios', sessionAxios],
  ['sessionFetch', sessionFetch],
])('%s(config)', (name, make: (config: never) => unknown) => {
  it.each<[unknown, string]>([
    [undefined, `${name}() takes an object that names the API: ${name}({ baseURL`],
    [null, `${name}() takes an object`],
    [{}, 'must be absolute http or https URLs'],
    [{ baseURL: '/api' }, 'must be absolute http or https URLs'],
    [{ baseURL, replay: 'once' }, '`replay` must be'],
  ])('refuses %j, and names the cure', (config, message) => {
    expect(() => make(config as never)).toThrow(ConfigurationError)
    expect(() => make(config as never)).toThrow(message)
  })

  it('can be made before there is any request', () => {
    expect(make({ baseURL } as never)).toBeInstanceOf(Function)
  })
})

it('sessionFetch() refuses unknown options', () => {
  expect(() => sessionFetch({ baseURL, baseUrl: '' } as never)).toThrow(
    'sessionFetch() has no option `baseUrl`. Did you mean `baseURL`?',
  )
})

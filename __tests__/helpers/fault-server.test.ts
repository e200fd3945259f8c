import { describe, expect, it } from '@jest/globals'
import { startTokenEndpoint } from './fault-server.js'

describe('startTokenEndpoint(handler)', () => {
  it('shows the handler the exact request, and answers what it says', async () => {
    const server = await startTokenEndpoint(({ parameters }) => ({
      status: 200,
      headers: { 'x-refresh': '1' },
      body: { access_token: parameters.get('refresh_token') },
    }))
    const response = await fetch(server.tokenEndpoint, { method: 'POST', body: 'refresh_token=a%2Bb+c' })
    expect(await response.json()).toEqual({ access_token: 'a+b c' })
    expect(response.headers.get('x-refresh')).toBe('1')
    expect(server.requests).toMatchObject([{ path: '/token', method: 'POST', body: 'refresh_token=a%2Bb+c' }])
    await server.close()
  })

  it('breaks the connection by name', async () => {
    const server = await startTokenEndpoint((_, index) => (index === 0 ? 'reset' : { status: 204 }))
    await expect(fetch(server.tokenEndpoint)).rejects.toThrow('fetch failed')
    expect((await fetch(server.tokenEndpoint)).status).toBe(204)
    await server.close()
  })

  it('closes although it never answered', async () => {
    const server = await startTokenEndpoint(() => new Promise(() => {}))
    const answer = expect(fetch(server.tokenEndpoint)).rejects.toThrow('fetch failed')
    while (server.requests.length === 0) await new Promise(setImmediate)
    await server.close()
    await answer
  })
})

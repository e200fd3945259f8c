import { describe, expect, it } from '@jest/globals'
import { expressVersions, startApp } from './app.js'
import { browser } from './browser.js'

describe.each(expressVersions)('startApp(buildApp) with %s', (name, express) => {
  it('listens with an application that knows its own URL', async () => {
    const { url, close } = await startApp((url) => {
      const app = express()
      app.get('/', (_req, res) => {
        res.json({ url })
      })
      return app
    })
    expect((await browser(url).get('/')).json).toEqual({ url })
    await close()
    await expect(browser(url).get('/')).rejects.toThrow('fetch failed')
  })

  it('is the version it says', () => {
    // Express 5 removed `app.del`.
    expect('del' in express()).toBe(name === 'Express 4')
  })

  it('ends the connections that are still waiting for an answer', async () => {
    let arrived = () => {}
    const arrival = new Promise<void>((resolve) => {
      arrived = resolve
    })
    const { url, close } = await startApp(() => express().get('/', () => arrived()))
    const answer = expect(browser(url).get('/')).rejects.toThrow('fetch failed')
    await arrival
    await close()
    await answer
  })
})

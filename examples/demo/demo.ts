import { bff } from './bff.js'
import { listen } from './server.js'
import { site } from './site.js'
import { type Stage, type StageOptions, setStage } from './stage.js'
import { timelineFeed } from './timeline-feed.js'
import { without } from './without.js'

export interface DemoOptions extends Omit<StageOptions, 'siteUrl' | 'door'> {
  /** Where the page is served; another port if this one is taken. */
  readonly port: number
}

export interface Demo extends Pick<Stage, 'timeline' | 'provider' | 'client'> {
  readonly url: string
  close(): Promise<void>
}

/** Starts everything: the authorization server, the API, and the app with its page. */
export async function startDemo({ port, ...options }: DemoOptions): Promise<Demo> {
  const server = await listen(port)
  const stage = await setStage({ siteUrl: server.url, ...options })
  const { timeline, provider, client } = stage
  const backend = bff(stage.bff)
  const feed = timelineFeed(timeline)
  server.use(
    site({ url: server.url, bff: backend.app, without: await without(stage.bff), timeline: feed.send }),
  )

  return {
    url: server.url,
    timeline,
    provider,
    client,
    async close() {
      feed.close()
      await server.close()
      // Refreshes under way need the authorization server until their tokens are stored.
      await backend.close()
      await stage.close()
    },
  }
}

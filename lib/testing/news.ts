import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import type { Case } from './case.js'

/** Cases of the optional `publish()` and `subscribe()`. A store without them meets the cases. */
export const newsCases: Case[] = [
  [
    'calls onOpen, and from then on the listener with each text',
    async ({ store }) => {
      if (!store.subscribe || !store.publish) return
      const texts = [randomUUID(), `{"text":"ü 🔑 ${randomUUID()}"}`]
      const heard: string[] = []
      let stop = () => {}
      let published: Promise<void> | undefined
      const hearing = new Promise<void>((resolve) => {
        const listener = (text: string) => {
          if (texts.includes(text)) heard.push(text)
          if (heard.length === texts.length) resolve()
        }
        const publish = async () => {
          for (const text of texts) await store.publish!(text)
        }
        stop = store.subscribe!(listener, () => {
          published ??= publish()
        })
      })
      await hearing
      stop()
      await published
      assert.deepEqual(heard, texts, 'the texts')
    },
  ],
]

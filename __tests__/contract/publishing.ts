import { expect } from '@jest/globals'
import type { GrantStore } from '../../lib/grants/grant-store.js'
import { eventually } from '../helpers/fleet-expectations.js'

/** Publishes a text over the first of some stores when all have subscribed: each hears it once. */
export async function expectHeardByAll(stores: readonly GrantStore[]): Promise<void> {
  const heard: string[] = []
  const subscribed = (store: GrantStore) =>
    new Promise<void>((open) => store.subscribe!((text) => void heard.push(text), open))
  await Promise.all(stores.map(subscribed))
  await stores[0]!.publish!('a text')
  await eventually(async () => expect(heard).toEqual(stores.map(() => 'a text')))
}

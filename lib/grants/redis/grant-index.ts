import { RECENT_ENDS_MS } from '../../concurrency/time-constants.js'
import type { GrantEnd, RecentEnd } from '../grant-store.js'
import { KEEP_FOR, NOW, type RedisScript, script } from './scripts.js'

/** Adds a grant to a label. ARGV: grantId, for how long. The label is forgotten with its last grant. */
const LABEL = script(
  NOW,
  KEEP_FOR,
  `
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], 'GT', string.format('%.0f', now + ARGV[2]), ARGV[1])
keep_for(ARGV[2])
`,
)

/** Notes in a grant that its labels lead to it. ARGV: labels, for how long. */
const LABELLED = script(
  NOW,
  `
if redis.call('HEXISTS', KEYS[1], 'tokens') == 0 then return end
redis.call('HSET', KEYS[1], 'labels', ARGV[1], 'labelled', string.format('%.0f', now + ARGV[2]))
`,
)

/** Removes a grant from a label. ARGV: grantId. */
const UNLABEL = script("return redis.call('ZREM', KEYS[1], ARGV[1])")

/** Returns the grants with a label. */
const LABELLED_GRANTS = script(
  NOW,
  "return redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf')",
)

/** Adds an end to the recent ends. ARGV: the end, for how long ends are recent. */
const NOTE_END = script(
  NOW,
  `
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[2]))
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
`,
)

/** Returns the recent ends. ARGV: of how many milliseconds. */
const RECENT_ENDS = script(
  NOW,
  "return redis.call('ZRANGEBYSCORE', KEYS[1], string.format('%.0f', now - ARGV[1]), '+inf')",
)

/** Runs a script on a key. */
type Run = (script: RedisScript, key: string, args: readonly string[]) => Promise<readonly unknown[]>

/** The prefix of the keys of labels, and the key of the recent ends. */
const LABEL_KEY = 'label:'
const ENDS_KEY = 'ends'

/**
 * The grants by their labels, and the recent ends. Each label has a key of its own, and so have the recent ends: in a cluster these
 * keys may be on other nodes than the grants.
 */
export class GrantIndex {
  readonly #run: Run

  constructor(run: Run) {
    this.#run = run
  }

  /**
   * Adds a grant to each of its labels. Then notes in the grant that this is done: after a crash before the note, the next commit
   * adds the grant to its labels again.
   */
  async label(grantId: string, labels: readonly string[], ttlMs: number): Promise<void> {
    const ttl = String(ttlMs)
    await Promise.all(labels.map((label) => this.#run(LABEL, `${LABEL_KEY}${label}`, [grantId, ttl])))
    await this.#run(LABELLED, grantId, [labels.join(' '), ttl])
  }

  async unlabel(grantId: string, labels: readonly string[]): Promise<void> {
    await Promise.all(labels.map((label) => this.#run(UNLABEL, `${LABEL_KEY}${label}`, [grantId])))
  }

  async grantsWith(label: string): Promise<string[]> {
    return (await this.#run(LABELLED_GRANTS, `${LABEL_KEY}${label}`, [])).map(String)
  }

  async noteEnd(grantId: string, why: GrantEnd): Promise<void> {
    await this.#run(NOTE_END, ENDS_KEY, [`${grantId} ${why}`, String(RECENT_ENDS_MS)])
  }

  async recentEnds(withinMs: number): Promise<RecentEnd[]> {
    const ends = await this.#run(RECENT_ENDS, ENDS_KEY, [String(Math.ceil(withinMs))])
    return ends.map((end) => {
      const [grantId = '', ended] = String(end).split(' ')
      return { grantId, ended: ended as GrantEnd }
    })
  }
}

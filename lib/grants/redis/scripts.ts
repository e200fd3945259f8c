import { createHash } from 'node:crypto'

/** A Lua script that Redis runs as one step. It works on one key, so it runs on Redis Cluster. */
export interface RedisScript {
  readonly source: string
  readonly sha1: string
}

/*
 * A grant is one hash:
 *   revision, tokens   the newest record
 *   owner, until, ttl  the lease: its owner, its end by Redis' clock, and its duration, in milliseconds
 *   free               when another owner may take a lease that ran out or that Redis may have lost; absent once it is taken
 *   run                the run of the server in which the grant was last leased, or in which it began; '-' if that is not known
 *   waiting            set when a process has to wait, so that a change is published only if a process waits for it
 *   labels, labelled   the labels of the record, and until when they lead to the grant, in milliseconds
 *   ended              why the grant has ended; then there are no other fields
 * A label is a sorted set of the ids of its grants, by the time until which they are remembered. The recent ends are one sorted set,
 * by the time of the end.
 * The clock of Redis decides about leases, since the clocks of processes differ.
 */

export const NOW = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`

/** Keeps the key for at least `ms` from now. Redis deletes it afterwards. */
export const KEEP_FOR = `
local function keep_for(ms)
  if redis.call('PTTL', KEYS[1]) < tonumber(ms) then redis.call('PEXPIRE', KEYS[1], ms) end
end
`

const NOTIFY = `
local function notify(channel, grant)
  -- A Redis user may lack the right to publish. A waiting process asks again soon anyway.
  if redis.call('HDEL', KEYS[1], 'waiting') == 1 then redis.pcall('PUBLISH', channel, grant) end
end
`

/** A server with a shorter uptime may have lost leases, even of grants that it has loaded from its disk. */
const YOUNG_MS = 5_000
/**
 * Reads the run of the server, and how long it still grants no lease after its start, so that lease holders can renew first.
 *
 * The uptime does not cover two cases: a server that loaded its data for longer than that, and a replica that was promoted. There
 * the grant was last changed in another run.
 */
const SERVER = `
local function server()
  local info = redis.pcall('INFO', 'server')
  if type(info) ~= 'string' then return nil, 0 end
  local uptime = tonumber(string.match(info, 'uptime_in_seconds:(%d+)'))
  local hold_off = uptime and math.max(0, ${YOUNG_MS} - uptime * 1000) or 0
  return string.match(info, 'run_id:(%x%x%x%x%x%x%x%x)'), hold_off
end
local run, hold_off = server()
local function from_before(known) return run and known and run ~= known end
`

export function script(...parts: string[]): RedisScript {
  const source = parts.join('').trim()
  return { source, sha1: createHash('sha1').update(source).digest('hex') }
}

/**
 * Takes the lease of a grant.
 *
 * ARGV: owner, ttlMs, revision, graceMs, graceMs for an unknown grant, hold-off for a grant from an earlier run, hold-off for an
 * unknown grant. A hold-off is how long the caller waits after another server has taken over, or may have.
 * Returns the outcome, how long to wait, revision, tokens, why the grant has ended, and the run of the server.
 *
 * A lease that ran out may still have a holder, since the server may have been suspended. A lease of an unknown grant, or of a grant
 * from an earlier run, may still have a holder, since the server may have lost the lease. So the first caller waits a moment, in
 * which the holder can renew. After a failover it waits some seconds, in which all processes find the new server and commit again.
 */
export const LEASE = script(
  NOW,
  KEEP_FOR,
  SERVER,
  `
local owner, ttl, revision = ARGV[1], ARGV[2], ARGV[3]
local known = redis.call(
  'HMGET', KEYS[1], 'revision', 'tokens', 'owner', 'until', 'ended', 'free', 'ttl', 'run'
)
local function reply(outcome, wait)
  return { outcome, wait, known[1] or '', known[2] or '', known[5] or '', run or '' }
end
local function text(number) return string.format('%.0f', number) end

if known[5] then return reply('ended', 0) end
if tonumber(known[1] or 0) > tonumber(revision) then return reply('newer', 0) end
local wait = 0
if known[3] ~= owner then
  wait = tonumber(known[4] or 0) - now
  -- The clock was set back, or another server has another clock.
  if known[7] and wait > tonumber(known[7]) then
    wait = tonumber(known[7])
    redis.call('HSET', KEYS[1], 'until', text(now + wait))
  end
  if wait <= 0 and (known[3] or known[6] or not known[1] or from_before(known[8])) then
    local grace = (known[3] or known[1]) and ARGV[4] or ARGV[5]
    local free = math.min(tonumber(known[6]) or now + grace, now + grace)
    redis.call('HSET', KEYS[1], 'free', text(free))
    wait = free - now
  end
  if wait <= 0 or not known[3] then wait = math.max(wait, hold_off) end
  if not known[1] then wait = math.max(wait, tonumber(ARGV[7]))
  elseif from_before(known[8]) then wait = math.max(wait, tonumber(ARGV[6])) end
end
if wait > 0 then
  redis.call('HSET', KEYS[1], 'waiting', 1)
  keep_for(2 * ttl)
  return reply('held', wait)
end
redis.call('HSET', KEYS[1], 'owner', owner, 'until', text(now + ttl), 'ttl', ttl, 'run', run or '')
redis.call('HDEL', KEYS[1], 'free')
keep_for(2 * ttl)
return reply('granted', 0)
`,
)

/**
 * Renews a lease.
 *
 * ARGV: owner, ttlMs. Returns 1, or 0 if the owner does not hold the lease. A lease that ran out is renewed if no other owner has
 * taken it. A lease that Redis has lost is taken again.
 */
export const RENEW = script(
  NOW,
  KEEP_FOR,
  SERVER,
  `
local owner, ttl = ARGV[1], ARGV[2]
local known = redis.call('HMGET', KEYS[1], 'owner', 'revision', 'ended', 'run', 'free')
local forgotten = not known[1] and (not known[2] or known[5] or hold_off > 0 or from_before(known[4]))
if known[3] or (known[1] ~= owner and not forgotten) then return 0 end
local lasts = string.format('%.0f', now + ttl)
redis.call('HSET', KEYS[1], 'owner', owner, 'until', lasts, 'ttl', ttl, 'run', run or '')
redis.call('HDEL', KEYS[1], 'free')
keep_for(2 * ttl)
return 1
`,
)

/**
 * Keeps a record if it is newer, and releases the lease of the owner.
 *
 * ARGV: owner, revision, tokens, grantTtlMs, channel, grantId, whether another server has just taken over (1 or 0), labels
 * separated by spaces, and graceMs for a record that is stored again, otherwise ''.
 *
 * Returns why the grant has ended, a newer record if there is one, the run of the server, and 1 if the grant is to be added to its
 * labels. The labels hold for twice as long as the grant, so this happens once in that time.
 *
 * Only the lease holder surely has the newest tokens. After a failover any process stores what it knows, and another process may
 * know of a later refresh. So such a grant still counts as one from an earlier run.
 *
 * Redis that has lost a grant may have lost its lease as well. A record that is stored again does not change that: the holder can
 * still renew the lease first.
 */
export const COMMIT = script(
  NOW,
  KEEP_FOR,
  NOTIFY,
  SERVER,
  `
local owner, revision, tokens, ttl, channel, grant = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local has_moved, labels, grace = ARGV[7] == '1', ARGV[8], tonumber(ARGV[9])
local known = redis.call('HMGET', KEYS[1], 'revision', 'tokens', 'owner', 'ended', 'run', 'labels', 'labelled')
if known[4] then return { known[4], '', '', run or '', 0 } end
local newer = tonumber(revision) > tonumber(known[1] or 0)
if newer then
  local begun_in = has_moved and '-' or run
  local last_run = known[3] == owner and run or known[5] or begun_in
  redis.call('HSET', KEYS[1], 'revision', revision, 'tokens', tokens, 'run', last_run or '')
  if not grace then redis.call('HDEL', KEYS[1], 'free')
  elseif not known[1] and not known[3] then redis.call('HSETNX', KEYS[1], 'free', string.format('%.0f', now + grace)) end
  keep_for(ttl)
end
if known[3] == owner then redis.call('HDEL', KEYS[1], 'owner', 'until', 'ttl', 'free') end
if newer or known[3] == owner then notify(channel, grant) end
if not newer then return { '', known[1], known[2], run or '', 0 } end
local are_labelled = known[6] == labels and tonumber(known[7] or 0) >= now + ttl and not has_moved
return { '', '', '', run or '', (labels == '' or are_labelled) and 0 or 1 }
`,
)

/** Releases a lease. ARGV: owner, channel, grantId. */
export const RELEASE = script(
  NOTIFY,
  `
local owner, channel, grant = ARGV[1], ARGV[2], ARGV[3]
if redis.call('HGET', KEYS[1], 'owner') ~= owner then return 0 end
redis.call('HDEL', KEYS[1], 'owner', 'until', 'ttl', 'free')
-- The key stays, so that RENEW does not read the released lease as a lost one.
redis.call('HSETNX', KEYS[1], 'revision', 0)
notify(channel, grant)
return 1
`,
)

/** Publishes a text. ARGV: channel, text. */
export const PUBLISH = script("return redis.call('PUBLISH', ARGV[1], ARGV[2])")

/** Returns the first 8 digits of the server's `run_id`, which is new after each start. '' if the server does not tell it. */
export const RUN = script(SERVER, "return { run or '' }")

/**
 * Reads the state of a grant. Returns why the grant has ended, the revision and the tokens of its record, and the run of the
 * server, as {@link RUN} does. Each missing value is ''.
 */
export const READ = script(
  SERVER,
  `
local known = redis.call('HMGET', KEYS[1], 'ended', 'revision', 'tokens')
return { known[1] or '', known[2] or '', known[3] or '', run or '' }
`,
)

/**
 * Ends a grant.
 *
 * ARGV: why, grantTtlMs, channel, grantId. Returns the revision and the tokens of the deleted record, the owner of a lease, and
 * the labels of the record, separated by spaces. Each missing value is ''.
 */
export const END = script(
  `
local why, ttl, channel, grant = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local known = redis.call('HMGET', KEYS[1], 'revision', 'tokens', 'ended', 'waiting', 'owner', 'labels')
local left = known[3] and redis.call('PTTL', KEYS[1]) or 0
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'ended', known[3] or why)
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.max(left, tonumber(ttl))))
if known[4] then redis.pcall('PUBLISH', channel, grant) end
return { known[1] or '', known[2] or '', known[5] or '', known[6] or '' }
`,
)

import { createHash } from 'node:crypto'

/** A Lua script that Redis runs as one step. It works on one key, the grant's, so it fits Redis Cluster. */
export interface RedisScript {
  readonly source: string
  readonly sha1: string
}

/*
 * A grant is one hash:
 *   revision, tokens   the newest record
 *   owner, until, ttl  who has the lease, until when by Redis' clock, and for how long it was given, in milliseconds
 *   free               from when somebody else may have a lease that ran out or that Redis knows nothing of
 *   run                which run of which server the grant was changed in last
 *   waiting            set when somebody was told to wait, so that a change is published only if it is news to anyone
 *   ended              why the grant has ended; then there is nothing else
 * Redis' own clock decides about leases: the clocks of processes differ.
 */

const NOW = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`

/** The key goes away by itself some time after whatever was asked last. */
const KEEP_FOR = `
local function keep_for(ms)
  if redis.call('PTTL', KEYS[1]) < tonumber(ms) then redis.call('PEXPIRE', KEYS[1], ms) end
end
`

const TELL = `
local function tell(channel, grant)
  -- Not every user may publish. Whoever waits asks again in a moment anyway.
  if redis.call('HDEL', KEYS[1], 'waiting') == 1 then redis.pcall('PUBLISH', channel, grant) end
end
`

/** A server that is younger may have forgotten leases, also of grants that it has read from its disk. */
const YOUNG_MS = 5_000
/**
 * Which run of the server this is, and for how long it grants no lease since it has just started, so that their holders
 * renew them first. A server that took longer than that to read its data is not young any more when it begins to answer, and
 * a replica that takes its master's place never was: there the grant was changed last in another run.
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

function script(...parts: string[]): RedisScript {
  const source = parts.join('').trim()
  return { source, sha1: createHash('sha1').update(source).digest('hex') }
}

/**
 * ARGV: owner, ttlMs, revision, graceMs, graceMs of a grant that Redis knows nothing of; for how long the caller waits since
 * another server has taken the place of one, for a grant from before and for one that Redis knows nothing of. Answers what
 * became of it, for how long to wait, revision, tokens, why ended, and which run of the server this is.
 *
 * A lease that ran out, and one of a grant that Redis knows nothing of or only from an earlier run, may still have a holder:
 * the server may have stood still, or have lost the lease. So whoever asks first has to wait a moment, in which the holder
 * renews it. After a failover it is some seconds, in which every process finds the new server and commits what it has lost.
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
local function answer(what, wait)
  return { what, wait, known[1] or '', known[2] or '', known[5] or '', run or '' }
end
local function text(number) return string.format('%.0f', number) end

if known[5] then return answer('ended', 0) end
if tonumber(known[1] or 0) > tonumber(revision) then return answer('newer', 0) end
local wait = 0
if known[3] ~= owner then
  wait = tonumber(known[4] or 0) - now
  -- The clock was set back, or is that of another server.
  if known[7] and wait > tonumber(known[7]) then
    wait = tonumber(known[7])
    redis.call('HSET', KEYS[1], 'until', text(now + wait))
  end
  if wait <= 0 and (known[3] or not known[1] or from_before(known[8])) then
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
  return answer('held', wait)
end
redis.call('HSET', KEYS[1], 'owner', owner, 'until', text(now + ttl), 'ttl', ttl, 'run', run or '')
redis.call('HDEL', KEYS[1], 'free')
keep_for(2 * ttl)
return answer('granted', 0)
`,
)

/**
 * ARGV: owner, ttlMs. Answers 1, or 0 if the lease is not the owner's. A lease that ran out and was given to nobody is
 * renewed, and one that Redis has forgotten is taken again.
 */
export const RENEW = script(
  NOW,
  KEEP_FOR,
  SERVER,
  `
local owner, ttl = ARGV[1], ARGV[2]
local known = redis.call('HMGET', KEYS[1], 'owner', 'revision', 'ended', 'run')
local forgotten = not known[1] and (not known[2] or hold_off > 0 or from_before(known[4]))
if known[3] or (known[1] ~= owner and not forgotten) then return 0 end
local lasts = string.format('%.0f', now + ttl)
redis.call('HSET', KEYS[1], 'owner', owner, 'until', lasts, 'ttl', ttl, 'run', run or '')
redis.call('HDEL', KEYS[1], 'free')
keep_for(2 * ttl)
return 1
`,
)

/**
 * ARGV: owner, revision, tokens, grantTtlMs, channel, grantId. Answers why ended, a newer record if there is one, and which
 * run of the server this is.
 */
export const COMMIT = script(
  KEEP_FOR,
  TELL,
  SERVER,
  `
local owner, revision, tokens, ttl, channel, grant = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local known = redis.call('HMGET', KEYS[1], 'revision', 'tokens', 'owner', 'ended')
if known[4] then return { known[4], '', '', run or '' } end
local newer = tonumber(revision) > tonumber(known[1] or 0)
if newer then
  redis.call('HSET', KEYS[1], 'revision', revision, 'tokens', tokens, 'run', run or '')
  keep_for(ttl)
end
if known[3] == owner then redis.call('HDEL', KEYS[1], 'owner', 'until', 'ttl') end
if newer or known[3] == owner then tell(channel, grant) end
if newer then return { '', '', '', run or '' } end
return { '', known[1], known[2], run or '' }
`,
)

/** ARGV: owner, channel, grantId. */
export const RELEASE = script(
  TELL,
  `
local owner, channel, grant = ARGV[1], ARGV[2], ARGV[3]
if redis.call('HGET', KEYS[1], 'owner') ~= owner then return 0 end
redis.call('HDEL', KEYS[1], 'owner', 'until', 'ttl')
-- What was released is not what was forgotten.
redis.call('HSETNX', KEYS[1], 'revision', 0)
tell(channel, grant)
return 1
`,
)

/** Answers which run of the server this is. */
export const RUN = script(SERVER, "return { run or '' }")

/** Answers why ended, revision, tokens. */
export const READ = script(`
local known = redis.call('HMGET', KEYS[1], 'ended', 'revision', 'tokens')
return { known[1] or '', known[2] or '', known[3] or '' }
`)

/** ARGV: why, grantTtlMs, channel, grantId. Answers revision and tokens of the record that it forgot, and the owner of a lease. */
export const END = script(
  `
local why, ttl, channel, grant = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local known = redis.call('HMGET', KEYS[1], 'revision', 'tokens', 'ended', 'waiting', 'owner')
local left = known[3] and redis.call('PTTL', KEYS[1]) or 0
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'ended', known[3] or why)
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.max(left, tonumber(ttl))))
if known[4] then redis.pcall('PUBLISH', channel, grant) end
return { known[1] or '', known[2] or '', known[5] or '' }
`,
)

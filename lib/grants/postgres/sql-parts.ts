import type { Names } from './names.js'

/*
 * A grant is one row:
 *   revision, tokens            the newest record; revision 0 without tokens if the grant was leased and never committed
 *   owner, leased_until, ttl_ms the lease: its owner, its end by the server's clock, and its duration
 *   left_by                     the owner that released or committed last, so that a late renewal does not take the lease again
 *   free_at                     when another owner may take a lease that ran out or that the table may have lost; null once taken
 *   run                         the run of the server in which the grant was last leased, or in which it began; '-' if not known
 *   waiting                     set when a process has to wait, so that a change is notified only if a process waits for it
 *   labels                      the labels of the record
 *   ended, ended_at             why and when the grant has ended; then there are no other values
 *   expires_at                  the row is deleted some time afterwards
 * One more row has the name of the channel of the notifications.
 * The clock of the server decides about leases, since the clocks of processes differ. It is read once the row is locked.
 */

/** A server that started a moment ago may have lost leases. So it leases a grant only to its previous holder. */
const YOUNG_MS = 5_000

/** How much longer than asked for a row is kept, so that most commits leave its index alone. */
const SLACK = 1.1

export function literal(text: string): string {
  const escaped = text.replaceAll("'", "''").replaceAll('\\', '\\\\')
  return `E'${escaped}'`
}

/** The run of the server, and of the table in it: the server has another start time after a restart, a new table another id. */
export const runOf = ({ table }: Names) =>
  `extract(epoch from pg_postmaster_start_time())::text || '/' || ${literal(table)}::regclass::oid::text`

/** How long the server still leases no grant after its start, in milliseconds. */
export const HOLD_OFF = `greatest(0, ${YOUNG_MS} - extract(epoch from clock_timestamp() - pg_postmaster_start_time()) * 1000)`

export const ms = (milliseconds: string) => `${milliseconds} * interval '1 millisecond'`

/** Keeps the row for at least so many milliseconds from now. */
export const keptFor = (milliseconds: string) =>
  `case when expires_at < moment + ${ms(milliseconds)} then moment + ${ms(`${SLACK} * ${milliseconds}`)} else expires_at end`

/**
 * Makes the commit wait for the disk, which an app may have turned off for speed: a lost lease or record would log a user out.
 */
export const DURABLE = `
  if current_setting('synchronous_commit') = 'off' then
    perform set_config('synchronous_commit', 'local', true);
  end if;`

/** Locks the row of the grant, and creates it first if there is none. Two processes may do so at once. */
export const lockRow = ({ table }: Names) => `
  loop
    select * into known from ${table} g where g.grant_id = _grant for update;
    exit when found;
    insert into ${table} (grant_id, expires_at) values (_grant, clock_timestamp() + interval '1 minute')
      on conflict do nothing;
  end loop;
  moment := clock_timestamp();`

export function plpgsql(name: string, parameters: string, returns: string, body: string): string {
  return `
create or replace function ${name}(${parameters})
returns ${returns} language plpgsql volatile set search_path = pg_catalog, pg_temp as $function$
#variable_conflict use_column
${body.trim()}
$function$;
`
}

export const declare = ({ table }: Names, more = '') => `
declare
  known ${table}%rowtype;
  moment timestamptz;${more}
begin`

/** The row that holds the name of the channel of the notifications, in place of tokens. */
const CHANNEL = literal('channel')

/**
 * Notifies all processes. Any role of the database may listen to a channel and notify it, if it knows the name. So the name is random,
 * and stands where only a role with rights to the table can read it.
 */
export const notificationOf = ({ table }: Names, payload: string) =>
  `pg_catalog.pg_notify(c.tokens, ${payload}::text) from ${table} c where c.grant_id = ${CHANNEL} and c.tokens is not null`

/** Notifies the processes that wait for the grant. */
export const notifyOf = (names: Names) =>
  `if known.waiting then perform ${notificationOf(names, '_grant')}; end if;`

/** Returns the name of the channel; with a parameter, gives it this name first if it has none. */
export const channelQuery = ({ table }: Names) => `select tokens from ${table} where grant_id = ${CHANNEL}`
export const newChannelOf = ({ table }: Names) => `
insert into ${table} as g (grant_id, tokens, expires_at) values (${CHANNEL}, $1, 'infinity')
on conflict (grant_id) do update set tokens = coalesce(g.tokens, excluded.tokens), ended = null, ended_at = null,
  expires_at = 'infinity'
returning tokens`

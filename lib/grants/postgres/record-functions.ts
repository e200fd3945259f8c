import type { Names } from './names.js'
import { DURABLE, declare, keptFor, lockRow, ms, notifyOf, plpgsql, runOf } from './sql-parts.js'

/**
 * Keeps a record if it is newer, and releases the lease of the owner. Returns why the grant has ended, or a newer record.
 *
 * Only the lease holder surely has the newest tokens. After a failover any process stores what it knows, and another process may
 * know of a later refresh. So such a grant still counts as one from an earlier run.
 *
 * A table that has lost a grant may have lost its lease as well. A record that is stored again does not change that: the holder
 * can still renew the lease first.
 */
export function commitOf(names: Names): string {
  const { table } = names
  return plpgsql(
    names.of('commit'),
    `
  _grant text, _owner text, _revision bigint, _tokens text, _ttl double precision, _has_moved boolean,
  _labels text[], _grace double precision`,
    'table (end_reason text, of_revision bigint, of_tokens text, server_run text)',
    `${declare(
      names,
      `
  is_newer boolean;
  is_held boolean;
  begun_in text;`,
    )}
  server_run := ${runOf(names)};
  begun_in := case when _has_moved then '-' else server_run end;
${DURABLE}
${lockRow(names)}
  if known.ended is not null then end_reason := known.ended; return next; return; end if;
  is_newer := _revision > coalesce(known.revision, 0);
  is_held := coalesce(known.owner = _owner, false);
  if not is_newer then of_revision := known.revision; of_tokens := known.tokens; end if;
  if is_newer or is_held then
    update ${table} set
      revision = greatest(known.revision, _revision),
      tokens = case when is_newer then _tokens else known.tokens end,
      labels = case when is_newer then coalesce(_labels, known.labels) else known.labels end,
      run = case when is_held then server_run when is_newer and known.run is null then begun_in else known.run end,
      owner = case when is_held then null else known.owner end,
      leased_until = case when is_held then null else known.leased_until end,
      ttl_ms = case when is_held then null else known.ttl_ms end,
      left_by = case when is_held then _owner else known.left_by end,
      free_at = case when _grace is null or is_held then null when known.revision is null and known.owner is null
        then coalesce(known.free_at, moment + ${ms('_grace')}) else known.free_at end,
      waiting = false,
      expires_at = ${keptFor('_ttl')}
      where grant_id = _grant;
    ${notifyOf(names)}
  end if;
  return next;
end`,
  )
}

/** Ends a grant. Returns the deleted record, and whether there was a lease. */
export function endOf(names: Names): string {
  const { table } = names
  return plpgsql(
    names.of('end'),
    '_grant text, _why text, _ttl double precision',
    'table (of_revision bigint, of_tokens text, is_leased boolean)',
    `${declare(names)}
${DURABLE}
${lockRow(names)}
  of_revision := known.revision; of_tokens := known.tokens; is_leased := known.owner is not null;
  update ${table} set revision = null, tokens = null, owner = null, leased_until = null, ttl_ms = null, left_by = null,
    free_at = null, run = null, waiting = false, labels = null, ended = coalesce(known.ended, _why),
    ended_at = coalesce(known.ended_at, moment), expires_at = ${keptFor('_ttl')}
    where grant_id = _grant;
  ${notifyOf(names)}
  return next;
end`,
  )
}

/**
 * Reads the state of a grant, and the run of the server also if there is no such grant. A replica may be late, so it refuses, and
 * the connection to it is closed.
 */
export function readOf(names: Names): string {
  return plpgsql(
    names.of('read'),
    '_grant text',
    'table (end_reason text, of_revision bigint, of_tokens text, server_run text)',
    `
begin
  if pg_is_in_recovery() then raise exception 'this server takes no writes' using errcode = '25006'; end if;
  return query select g.ended, g.revision, g.tokens, ${runOf(names)}
    from (select 1) one left join ${names.table} g on g.grant_id = _grant;
end`,
  )
}

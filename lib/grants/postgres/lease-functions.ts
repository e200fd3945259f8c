import type { Names } from './names.js'
import { DURABLE, declare, HOLD_OFF, keptFor, lockRow, ms, notifyOf, plpgsql, runOf } from './sql-parts.js'

/**
 * Takes the lease of a grant.
 *
 * A lease that ran out may still have a holder, since the server may have been suspended. A lease of an unknown grant, or of a grant
 * from an earlier run, may still have a holder, since the server may have lost the lease. So the first caller waits a moment, in
 * which the holder can renew. After a failover it waits some seconds, in which all processes find the new server and commit again.
 */
export function leaseOf(names: Names): string {
  const { table } = names
  return plpgsql(
    names.of('lease'),
    `
  _grant text, _owner text, _ttl double precision, _revision bigint, _grace double precision,
  _grace_unknown double precision, _hold_off_earlier double precision, _hold_off_unknown double precision`,
    'table (outcome text, wait_ms double precision, of_revision bigint, of_tokens text, end_reason text, server_run text)',
    `${declare(
      names,
      `
  wait double precision := 0;
  hold_off double precision := ${HOLD_OFF};
  from_before boolean;`,
    )}
  server_run := ${runOf(names)};
  -- A caller that has to wait, or need not refresh any more, locks and writes nothing.
  select * into known from ${table} g where g.grant_id = _grant;
  of_revision := known.revision; of_tokens := known.tokens; end_reason := known.ended; wait_ms := 0;
  if known.ended is not null then outcome := 'ended'; return next; return; end if;
  if known.revision > _revision then outcome := 'newer'; return next; return; end if;
  wait := extract(epoch from known.leased_until - clock_timestamp()) * 1000;
  if known.waiting and known.owner <> _owner and wait > 0 and wait <= known.ttl_ms then
    outcome := 'held'; wait_ms := wait; return next; return;
  end if;
${DURABLE}
${lockRow(names)}
  of_revision := known.revision; of_tokens := known.tokens; end_reason := known.ended;
  if known.ended is not null then outcome := 'ended'; return next; return; end if;
  if known.revision > _revision then outcome := 'newer'; return next; return; end if;
  wait := 0;
  if known.owner is distinct from _owner then
    from_before := coalesce(known.run <> server_run, false);
    wait := coalesce(extract(epoch from known.leased_until - moment) * 1000, 0);
    -- The clock was set back, or another server has another clock.
    if wait > known.ttl_ms then
      wait := known.ttl_ms;
      known.leased_until := moment + ${ms('wait')};
    end if;
    if wait <= 0 and (known.owner is not null or known.free_at is not null or known.revision is null or from_before) then
      known.free_at := least(
        known.free_at,
        moment + ${ms('case when known.owner is null and known.revision is null then _grace_unknown else _grace end')}
      );
      wait := extract(epoch from known.free_at - moment) * 1000;
    end if;
    if wait <= 0 or known.owner is null then wait := greatest(wait, hold_off); end if;
    if known.revision is null then wait := greatest(wait, _hold_off_unknown);
    elsif from_before then wait := greatest(wait, _hold_off_earlier); end if;
  end if;
  if wait > 0 then
    -- A crash may lose this: waiting processes ask again.
    perform set_config('synchronous_commit', 'off', true);
    update ${table} set waiting = true, free_at = known.free_at, leased_until = known.leased_until,
      expires_at = ${keptFor('2 * _ttl')} where grant_id = _grant
      and not (waiting and free_at is not distinct from known.free_at and leased_until is not distinct from known.leased_until);
    outcome := 'held'; wait_ms := wait; return next; return;
  end if;
  update ${table} set owner = _owner, leased_until = moment + ${ms('_ttl')}, ttl_ms = _ttl, left_by = null,
    free_at = null, run = server_run, expires_at = ${keptFor('2 * _ttl')} where grant_id = _grant;
  outcome := 'granted'; wait_ms := 0; return next;
end`,
  )
}

/**
 * Renews a lease. Returns whether the owner holds it. A lease that ran out is renewed if no other owner has taken it. A lease
 * that the table has lost is taken again.
 */
export function renewOf(names: Names): string {
  const { table } = names
  return plpgsql(
    names.of('renew'),
    '_grant text, _owner text, _ttl double precision',
    'table (renewed boolean)',
    `${declare(
      names,
      `
  server_run text := ${runOf(names)};
  is_lost boolean;`,
    )}
${lockRow(names)}
  is_lost := known.owner is null and known.left_by is distinct from _owner
    and (known.revision is null or known.free_at is not null or ${HOLD_OFF} > 0 or coalesce(known.run <> server_run, false));
  if known.ended is not null or (known.owner is distinct from _owner and not is_lost) then renewed := false; return next; return; end if;
  update ${table} set owner = _owner, leased_until = moment + ${ms('_ttl')}, ttl_ms = _ttl, left_by = null,
    free_at = null, run = server_run, expires_at = ${keptFor('2 * _ttl')} where grant_id = _grant;
  renewed := true; return next;
end`,
  )
}

/** Releases a lease. A grant that was never committed counts as known afterwards. */
export function releaseOf(names: Names): string {
  const { table } = names
  return plpgsql(
    names.of('release'),
    '_grant text, _owner text',
    'void',
    `${declare(names)}
  select * into known from ${table} g where g.grant_id = _grant and g.owner = _owner for update;
  if not found then return; end if;
  update ${table} set owner = null, leased_until = null, ttl_ms = null, left_by = _owner, free_at = null, waiting = false,
    revision = coalesce(known.revision, 0) where grant_id = _grant;
  ${notifyOf(names)}
end`,
  )
}

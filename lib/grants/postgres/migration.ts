import { leaseOf, releaseOf, renewOf } from './lease-functions.js'
import type { Names } from './names.js'
import { commitOf, endOf, readOf } from './record-functions.js'
import { literal } from './sql-parts.js'

/** Makes the statements that create the table and the functions. They may be run again. */
export function migrationOf(names: Names): string {
  return [
    tableOf(names),
    leaseOf(names),
    renewOf(names),
    commitOf(names),
    releaseOf(names),
    endOf(names),
    readOf(names),
  ]
    .map((statement) => `${statement.trim()}\n`)
    .join('\n')
}

/** Asks whether the migration of this version has been applied. */
export function installedQuery({ table, last }: Names): string {
  return `
select pg_catalog.to_regclass(${literal(table)}::text) is not null
  and pg_catalog.to_regprocedure(${literal(`${last}(text)`)}::text) is not null as installed`
}

/** Returns the statement that lets one process at a time run the migration, until the end of its transaction. */
export function migrationLock({ lock }: Names): string {
  return `select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended(${literal(lock)}::text, 0::bigint));\n`
}

function tableOf({ table, indexOn }: Names): string {
  return `
create table if not exists ${table} (
  grant_id text primary key,
  revision bigint,
  tokens text,
  owner text,
  leased_until timestamptz,
  ttl_ms double precision,
  left_by text,
  free_at timestamptz,
  run text,
  waiting boolean not null default false,
  labels text[],
  ended text,
  ended_at timestamptz,
  expires_at timestamptz not null
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

create index if not exists ${indexOn('expires_at')} on ${table} (expires_at);
create index if not exists ${indexOn('labels')} on ${table} using gin (labels) with (fastupdate = off);
create index if not exists ${indexOn('ended_at')} on ${table} (ended_at) where ended_at is not null;
`
}

/** Deletes some rows that have expired. Rows that a process works on are left for later, so nothing waits. */
export function sweepOf({ table }: Names, most: number): string {
  return `
with old as (
  select grant_id from ${table} where expires_at < now() order by expires_at limit ${most} for update skip locked
)
delete from ${table} g using old where g.grant_id = old.grant_id returning 1`
}

/**
 * Makes a query that lists rows. It calls the function that reads a grant first, which fails on a replica: a replica may be late.
 * Without a row to list, the query returns one empty row.
 */
const listed = ({ last, table }: Names, columns: string, condition: string) =>
  `select ${columns} from (select from ${last}(''::text) limit 1) one left join ${table} g on ${condition}`

/** Lists the grants with a label. */
export function grantsWithOf(names: Names): string {
  return listed(names, 'g.grant_id', 'g.labels operator(pg_catalog.@>) array[$1::text]')
}

/** Lists the grants that have ended within so many milliseconds. */
export function recentEndsOf(names: Names): string {
  // The time of the statement, and not of each row, so that the index finds the rows.
  const since = `pg_catalog.now() - $1::double precision * interval '1 millisecond'`
  return listed(names, 'g.grant_id, g.ended', `g.ended_at > ${since}`)
}

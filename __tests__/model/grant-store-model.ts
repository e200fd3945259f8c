import type { GrantEnd } from '../../lib/grants/grant-store.js'

interface Revised {
  readonly revision: number
}

/** One grant as a grant store keeps it. */
export interface StoredGrant<R extends Revised> {
  readonly record?: R
  readonly ended?: GrantEnd
  readonly lease?: { readonly owner: string; readonly expiresAt: number }
}

/** What a grant store tells of a grant. */
export interface ToldState<R extends Revised> {
  readonly record?: R
  readonly ended?: GrantEnd
}

/** What an operation leaves behind, and what it answers. */
type Outcome<R extends Revised, A> = readonly [left: StoredGrant<R>, answer: A]

export interface LeaseAsked {
  readonly owner: string
  readonly ttlMs: number
  readonly revision: number
}

/** `GrantStore.lease` that waits for nobody. `now` is whatever clock the caller likes, in milliseconds. */
export function lease<R extends Revised>(
  grant: StoredGrant<R>,
  { owner, ttlMs, revision }: LeaseAsked,
  now: number,
): Outcome<R, ToldState<R> & { readonly granted: boolean }> {
  const state = read(grant)
  const newer = (grant.record?.revision ?? 0) > revision
  if (grant.ended || newer || isLeased(grant, now)) return [grant, { ...state, granted: false }]
  return [
    { ...grant, lease: { owner, expiresAt: now + ttlMs } },
    { ...state, granted: true },
  ]
}

export function renew<R extends Revised>(
  grant: StoredGrant<R>,
  owner: string,
  ttlMs: number,
  now: number,
): Outcome<R, boolean> {
  if (!isLeased(grant, now) || grant.lease?.owner !== owner) return [grant, false]
  return [{ ...grant, lease: { owner, expiresAt: now + ttlMs } }, true]
}

export function commit<R extends Revised>(
  grant: StoredGrant<R>,
  owner: string,
  record: R,
): Outcome<R, ToldState<R>> {
  const isKept = !grant.ended && record.revision > (grant.record?.revision ?? 0)
  const left = release(isKept ? { ...grant, record } : grant, owner)
  return [left, read(left)]
}

export function release<R extends Revised>(grant: StoredGrant<R>, owner: string): StoredGrant<R> {
  return grant.lease?.owner === owner ? withoutLease(grant) : grant
}

export function read<R extends Revised>({ record, ended }: StoredGrant<R>): ToldState<R> {
  if (ended) return { ended }
  return record ? { record } : {}
}

export function end<R extends Revised>(
  grant: StoredGrant<R>,
  why: GrantEnd,
): Outcome<R, (R & { readonly isLeased?: true }) | undefined> {
  const { record, ...left } = grant
  const answer = record && { ...record, ...(grant.lease && { isLeased: true as const }) }
  return [{ ...left, ended: grant.ended ?? why }, answer]
}

export function withoutLease<R extends Revised>(grant: StoredGrant<R>): StoredGrant<R> {
  const { lease: _, ...left } = grant
  return left
}

function isLeased<R extends Revised>({ lease }: StoredGrant<R>, now: number): boolean {
  return lease !== undefined && lease.expiresAt > now
}

import type { StoredGrant } from './grant-store-model.js'

/**
 * A token set, by the numbers of its tokens: a refresh brings a refresh token and an access token of the same number,
 * and a dead set holds number 0.
 */
export interface TokenSet {
  readonly revision: number
  readonly token: number
}

/** How the authorization server sees the grant. Sets of tokens are bits, token n being bit n. */
export interface Server {
  readonly newest: number
  readonly presented: number
  readonly ended: boolean
}

/** Where a request is. What is named after an operation waits for it to happen. */
export type Place =
  | 'at rest'
  | 'arrived'
  | 'leasing'
  | 'rereading'
  | 'presenting'
  | 'answered'
  | 'refused'
  | 'looking again'
  | 'committing'
  | 'storing'
  | 'healing'
  | 'saving'
  | 'writing stored'
  | 'writing healed'
  | 'writing saved'
  | 'checking stored'
  | 'checking healed'
  | 'checking saved'
  | 'revoking'
  | 'releasing'

export interface Request {
  readonly at: Place
  /** As the request got it with its session. */
  readonly copy: TokenSet | undefined
  readonly tokens: TokenSet | undefined
  readonly presented: number
  readonly answer: number
  /** What the request believes. */
  readonly holdsLease: boolean
  /** What happened: its lease went to nobody or to somebody else while it was not looking. */
  readonly lostLease: boolean
  readonly commitFailed: boolean
  /** It writes the session at once after it was told that the grant is alive; or else it asks once more. */
  readonly isPrompt: boolean
}

export interface Logout {
  readonly at: 'none' | 'arrived' | 'ending' | 'clearing again' | 'revoking'
  readonly tokens: TokenSet | undefined
  readonly clear: 'to do' | 'read' | 'done'
  readonly end: 'to do' | 'done'
  /** The session was cleared after the grant had ended. */
  readonly clearedLast: boolean
  /** The grant store had something newer than this process knew. */
  readonly crossed: boolean
  readonly failed: boolean
}

/** What a process has in memory. */
export interface Process {
  readonly known: TokenSet | undefined
  readonly ended: boolean
  readonly request: Request
  readonly logout: Logout
}

/** How often something may still happen. */
export interface Budget {
  readonly requests: number
  readonly logouts: number
  /** The access tokens expire. */
  readonly expiries: number
  readonly crashes: number
  /** The connection to the authorization server breaks. */
  readonly breaks: number
  /** A process stands still for longer than a lease holds. */
  readonly stalls: number
  /** The grant store does not answer. */
  readonly outages: number
  /** The grant store loses everything. */
  readonly losses: number
  /** The session store fails. */
  readonly sessionFailures: number
}

/** What nobody in the model can see, for the invariants to look at. */
export interface History {
  /** Presented tokens, as bits, whose outcome a crash or a broken connection took along. */
  readonly lost: number
  /** Presented tokens, as bits, whose presenter was cut off from the grant store meanwhile. */
  readonly cutOff: number
  /** A token that was presented again without one of these excuses. */
  readonly misused: number
  /** Such a token that was presented when its grant had ended, or the session had been cleared. */
  readonly misusedLate: number
  /** The newest revision that was ever in the grant store or in the session. */
  readonly stored: number
  /** A token that could be stored nowhere, and is known to the process that got it. */
  readonly stranded: number
  readonly loggedOut: boolean
  readonly storeLost: boolean
}

export interface State {
  readonly server: Server
  readonly grant: StoredGrant<TokenSet>
  /** A commit that its process has given up, and that may arrive yet. */
  readonly afloat: TokenSet | undefined
  readonly session: TokenSet | undefined
  readonly processes: readonly Process[]
  /** The access tokens up to this one have expired. */
  readonly expired: number
  readonly left: Budget
  readonly history: History
}

export const atRest: Request = {
  at: 'at rest',
  copy: undefined,
  tokens: undefined,
  presented: 0,
  answer: 0,
  holdsLease: false,
  lostLease: false,
  commitFailed: false,
  isPrompt: false,
}

export const noLogout: Logout = {
  at: 'none',
  tokens: undefined,
  clear: 'to do',
  end: 'to do',
  clearedLast: false,
  crossed: false,
  failed: false,
}

export const started: Process = { known: undefined, ended: false, request: atRest, logout: noLogout }

export function newest(a: TokenSet | undefined, b: TokenSet | undefined): TokenSet | undefined {
  if (!a || !b) return a ?? b
  return b.revision > a.revision ? b : a
}

export function bit(token: number): number {
  return 1 << token
}

/** What the grant store and the session hold together. */
export function stored({ grant, session }: Pick<State, 'grant' | 'session'>): TokenSet {
  return newest(grant.record, session) ?? { revision: 0, token: 0 }
}

export function isAtRest({ processes, grant }: State): boolean {
  const isIdle = ({ request, logout }: Process) => request.at === 'at rest' && logout.at === 'none'
  return grant.lease === undefined && processes.every(isIdle)
}

/** A short text, the same for the same state and no other. Very many are made. */
export function keyOf({ server, grant, afloat, session, processes, expired, left, history }: State): string {
  const { lost, cutOff, misused, misusedLate, stored, stranded, loggedOut, storeLost } = history
  const { requests, logouts, expiries, crashes, breaks, stalls, outages, losses, sessionFailures } = left
  const stores =
    keyOfSet(grant.record) + keyOfSet(session) + keyOfSet(afloat) + keyOfOwner(grant.lease?.owner)
  const numbers = `${server.newest}${expired}${misused}${misusedLate}${stored}${stranded}`
  const facts = flags(server.ended, loggedOut, storeLost, grant.ended !== undefined)
  const events = `${requests}${logouts}${expiries}${crashes}${breaks}${stalls}${outages}${losses}${sessionFailures}`
  let key = `${stores}${numbers}${events}${facts},${server.presented},${lost},${cutOff}`
  for (const process of processes) key += keyOfProcess(process)
  return key
}

function keyOfProcess({ known, ended, request, logout }: Process): string {
  const { at, copy, tokens, presented, answer, holdsLease, lostLease, commitFailed, isPrompt } = request
  const sets = keyOfSet(known) + keyOfSet(copy) + keyOfSet(tokens) + keyOfSet(logout.tokens)
  const facts = flags(ended, holdsLease, lostLease, commitFailed, isPrompt)
  const logoutAt = logout.at === 'none' ? '' : keyOfLogout(logout)
  return `;${placeKeys[at]}${sets}${presented}${answer}${facts}${logoutAt}`
}

function keyOfLogout({ at, clear, end, clearedLast, crossed, failed }: Logout): string {
  return at + clear + end + flags(clearedLast, crossed, failed, false)
}

const placeKeys: Readonly<Record<Place, string>> = {
  'at rest': '-',
  arrived: 'a',
  leasing: 'b',
  rereading: 'c',
  presenting: 'd',
  answered: 'e',
  refused: 'f',
  'looking again': 'g',
  committing: 'h',
  storing: 'i',
  healing: 'j',
  saving: 'k',
  'writing stored': 'l',
  'writing healed': 'm',
  'writing saved': 'n',
  'checking stored': 'q',
  'checking healed': 'r',
  'checking saved': 's',
  revoking: 'o',
  releasing: 'p',
}

function keyOfSet(set: TokenSet | undefined): string {
  return set ? `${set.revision}${set.token}` : '-'
}

function keyOfOwner(owner: string | undefined): string {
  return owner?.charAt(0) ?? '-'
}

function flags(a: boolean, b: boolean, c: boolean, d: boolean, e = false): number {
  return +a + 2 * +b + 4 * +c + 8 * +d + 16 * +e
}

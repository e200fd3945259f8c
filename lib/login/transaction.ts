import * as oidc from 'openid-client'
import type { DpopKey } from '../tokens/dpop-key.js'

/** How long a login may take. */
export const TRANSACTION_MS = 15 * 60_000
/** How long a transaction is remembered, so that the page for a late callback can say what has happened. */
export const REMEMBERED_MS = 2 * TRANSACTION_MS
/** How many transactions a browser may have. The oldest transactions beyond that are deleted. */
export const MAX_TRANSACTIONS = 8

/** A login that is under way, from the redirect to the authorization server until its callback. */
export interface Transaction {
  readonly state: string
  readonly nonce: string
  readonly codeVerifier: string
  /** The path to which the login leads. */
  readonly returnTo: string
  /** Milliseconds since the epoch. */
  readonly beganAt: number
  /** The `max_age` of the authorization request. The ID token is checked for it, as for `acrValues`. */
  readonly maxAge?: number
  readonly acrValues?: string
  /** The name of the step-up requirement that this login must meet. It is the name of a note, see step-up-notes.ts. */
  readonly stepUp?: string
  /** Whether the login was begun in a session without a user. Noted only with `transactions: 'session'`. */
  readonly isOfVisitor?: true
  /** Whether the callback of the login has come. Then the other values are empty. */
  readonly isUsed?: true
  /** The key that the tokens are to be bound to, with the option `dpop` of `sessionTokens()`. */
  readonly dpopKey?: DpopKey
}

/** The values with which a transaction is begun. */
export type TransactionStart = Pick<
  Transaction,
  'returnTo' | 'maxAge' | 'acrValues' | 'stepUp' | 'dpopKey' | 'isOfVisitor'
>

export function newTransaction(start: TransactionStart): Transaction {
  return {
    ...start,
    state: oidc.randomState(),
    nonce: oidc.randomNonce(),
    codeVerifier: oidc.randomPKCECodeVerifier(),
    beganAt: Date.now(),
  }
}

/** Returns the rest of a transaction whose callback has come: its state, its path and its start. */
export function usedTransaction({ state, returnTo, beganAt }: Transaction): Transaction {
  return { state, returnTo, beganAt, nonce: '', codeVerifier: '', isUsed: true }
}

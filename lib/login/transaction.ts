import * as oidc from 'openid-client'
import type { DpopKey } from '../tokens/dpop-key.js'

/** How long a login may take. */
export const TRANSACTION_MS = 15 * 60_000
/** How long a transaction is remembered, so that a late callback is told what it is. */
export const REMEMBERED_MS = 2 * TRANSACTION_MS
/** How many transactions a browser may have. The oldest one gives way. */
export const MAX_TRANSACTIONS = 8

/** A login that is under way, from the redirect to the provider until its callback. */
export interface Transaction {
  readonly state: string
  readonly nonce: string
  readonly codeVerifier: string
  /** The path to which the login leads. */
  readonly returnTo: string
  /** Milliseconds since the epoch. */
  readonly beganAt: number
  /** What the ID token is checked for. */
  readonly maxAge?: number
  readonly acrValues?: string
  /** The requirement that the login is to meet, see `StepUps`. */
  readonly stepUp?: string
  /** Whether the login was begun in a session without a user. Noted only with `transactions: 'session'`. */
  readonly isOfVisitor?: true
  /** Whether its callback has come. Then the other values are empty. */
  readonly isUsed?: true
  /** The key that the tokens are to be bound to, with the option `dpop` of `sessionTokens()`. */
  readonly dpopKey?: DpopKey
}

/** What a transaction is begun with. */
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

/** Returns what stays of a transaction when its callback has come: only where it led. */
export function usedTransaction({ state, returnTo, beganAt }: Transaction): Transaction {
  return { state, returnTo, beganAt, nonce: '', codeVerifier: '', isUsed: true }
}

import { TokenError } from '../../errors/token-error.js'

const MIGRATE =
  'The table or its functions are missing: run the migration, for example with `await store.migrate()`.'
const READ_ONLY = 'The pool is connected to a server that takes no writes, such as a replica.'
const RIGHTS = 'Check the rights of its role: see the grants in docs/postgresql.md.'
const LOGIN = 'Check its database, user and password.'
const ROOM = 'Too many connections: check max_connections, and max of each pool.'
const GONE =
  'The server was stopped, or closed the connection. Check that it runs: the next command connects again.'

/** Says what to do about an error of PostgreSQL, by its SQLSTATE, or by the class of its SQLSTATE. */
const CURES: Readonly<Record<string, string>> = {
  '25006': READ_ONLY,
  '28': LOGIN,
  '3D000': LOGIN,
  '3F000': MIGRATE,
  '42501': RIGHTS,
  '42883': MIGRATE,
  '42P01': MIGRATE,
  '53100': 'Its disk is full.',
  '53200': 'Its memory is full.',
  '53300': ROOM,
  '55P03': 'Another transaction holds a lock for longer than lock_timeout: look for it in pg_locks.',
  '57014': 'The statement took longer than statement_timeout, or was cancelled.',
  '57P03': 'The server is starting or recovering.',
  '57P': GONE,
  '08': GONE,
}

/** The code of an error of PostgreSQL, which no code of Node such as EPIPE looks like. */
const SQLSTATE = /^(\d[\dA-Z]|F0|HV|P0|XX)[\dA-Z]{3}$/

/** The classes whose messages hold no value of a row or a parameter. */
const WITHOUT_DATA = /^(08|25|28|3D|3F|40|42|53|55|57)/

/** Whether the connection on which an error occurred must not be used again. */
export function breaksConnection(error: unknown): boolean {
  const state = stateOf(error)
  // A connection to a server that has become a replica would fail for ever. One that was cancelled is still good.
  return state === undefined || /^(08|25006|57P)/.test(state)
}

/** Whether the statement changed nothing and would succeed if it ran again: it met another transaction. */
export function isConflict(error: unknown): boolean {
  return /^(40001|40P01)$/.test(stateOf(error) ?? '')
}

/** Whether an error of a command says that the table or a function is missing. */
export function isMissing(error: unknown): boolean {
  return /^(42P01|42883)$/.test(stateOf((error as Error).cause) ?? '')
}

/** Makes the error of a command that failed. Its message shows the code; the details of PostgreSQL may hold tokens. */
export function postgresError(cause: unknown): TokenError {
  const state = stateOf(cause)
  if (state === undefined) {
    const code = codeOf(cause)
    const message = `PostgreSQL cannot be reached${code === undefined ? '' : ` (${code})`}. Check its connection.`
    return new TokenError('ERR_GRANT_STORE', message, { cause })
  }
  const cure = CURES[state] ?? CURES[state.slice(0, 3)] ?? CURES[state.slice(0, 2)] ?? 'Check its log.'
  return new TokenError('ERR_GRANT_STORE', `PostgreSQL refused a command (${state}). ${cure}`, {
    cause,
    causeMessage: WITHOUT_DATA.test(state),
  })
}

/** Returns the SQLSTATE of an error that PostgreSQL sent. */
function stateOf(error: unknown): string | undefined {
  const { code } = (error ?? {}) as { code?: unknown }
  return typeof code === 'string' && SQLSTATE.test(code) ? code : undefined
}

/** Returns the code of an error of Node, such as ECONNREFUSED. */
function codeOf(error: unknown): string | undefined {
  const { code } = (error ?? {}) as { code?: unknown }
  return typeof code === 'string' && /^E[A-Z]{2,31}$/.test(code) ? code : undefined
}

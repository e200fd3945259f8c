/*
 * The times that must be ordered with each other, in milliseconds. The rules at the end are checked when this file is loaded.
 */

/** How long a lease holds unless it is renewed. A process that dies delays the other processes by about this time. */
export const LEASE_MS = 5_000
/** How often a lease is renewed. A grant store that has lost a lease learns of it from the renewal. */
export const RENEW_EVERY_MS = 800
/** After this time without contact another process may have had the lease: the clock of the grant store may be ahead. */
export const LEASE_SURE_MS = LEASE_MS / 2
/** How long a grant store that has lost a grant waits by default before it leases the grant to another process. */
export const GRACE_MS = 1_800
/** How long the write to the session waits for the commit to the grant store. */
export const COMMIT_PATIENCE_MS = 1_000

/**
 * After a write to a session that takes longer than this, the process reads the grant store, see sessions/store/write-race.ts.
 */
export const FAST_WRITE_MS = 50
/** How long a process waits before it reads a session again after a write race. */
export const RACE_WINDOW_MS = 2 * FAST_WRITE_MS
/** How long after its refresh another process may still be about to write the session. A busy machine is slow. */
export const RECENT_REFRESH_MS = 10 * RACE_WINDOW_MS

/** How long the save of a session waits for a response of the grant store. */
export const QUICK_TIMEOUT_MS = 1_000
/** How long an operation of the grant store may take, beyond the time that it is asked to wait. */
export const GRANT_STORE_TIMEOUT_MS = 5_000
/** How long an operation of the session store may take. */
export const STORE_TIMEOUT_MS = 10_000
/** How long an operation waits for the lock of a session. Then it begins without the lock, as some stores never call back. */
export const LOCK_TIMEOUT_MS = 5_000

/** How long a grant store lists an end among the recent ends. */
export const RECENT_ENDS_MS = 3_600_000
/** How often a process reads the recent ends, in case that it has missed news without a sign of it. */
export const NEWS_CHECK_MS = 10_000
/** How often a process reads the recent ends while it receives no news: so it knows an end within a second. */
export const CHECK_WITHOUT_NEWS_MS = 500
/** How long a process waits until it receives the news, before it reads the recent ends in any case. */
export const SUBSCRIBE_PATIENCE_MS = 500
/** How long a valid token waits for the recent ends, when a process starts or was cut off from the news. */
export const CATCH_UP_PATIENCE_MS = 1_000

/** How often the record that was committed last is read back: so a grant store that lost data is noticed. */
export const SAMPLE_EVERY_MS = 2_000
/** The longest pause before a store that failed is tried again. */
export const LAST_RETRY_MS = 1_000
/** How long after a failover a grant store leases no grant that may have been refreshed before. All processes find the new server. */
export const HOLD_OFF_MS = 5_000

/** After this time a refresh ahead of expiry looks again whether another process has refreshed the grant. */
export const AHEAD_RETRY_MS = 5_000
/** How long a caller waits for a refresh by default while its token is still valid. */
export const DEFAULT_PATIENCE_MS = 1_000
/** How long a caller waits for a token by default. */
export const DEFAULT_TIMEOUT_MS = 10_000
/** How long a refresh may take by default. */
export const DEFAULT_REFRESH_TIMEOUT_MS = 30_000

/** How long a secret that a function has returned is used before the function is called again. */
export const RELOAD_AFTER_MS = 60_000
/**
 * If the last call of the function `encryptionKeys` is older than this, a request to the app waits for the new keys. With a more
 * recent call the request uses the keys at hand, and new keys are fetched in the background.
 */
export const WAIT_FOR_KEYS_AFTER_MS = 300_000
/** How long a function that returns a secret may take. */
export const RELOAD_TIMEOUT_MS = 5_000
/** How long a function that has returned no secret yet is not called again after a failure. */
export const RELOAD_PAUSE_MS = 1_000

const RULES: Readonly<Record<string, boolean>> = {
  'a lease survives a renewal that fails': 2 * RENEW_EVERY_MS < LEASE_SURE_MS,
  'the holder of a lease stops trusting it before it runs out': LEASE_SURE_MS < LEASE_MS,
  'a grant store that has lost a lease hears of it before it leases the grant again':
    2 * RENEW_EVERY_MS < GRACE_MS,
  'a lease holds until its commit is given up': LEASE_SURE_MS + COMMIT_PATIENCE_MS < LEASE_MS,
  'a fast write is done when the race window is over': FAST_WRITE_MS < RACE_WINDOW_MS,
  'a refresh is recent for longer than a race window': RACE_WINDOW_MS < RECENT_REFRESH_MS,
  'a question to a silent grant store takes no longer than a fast write': FAST_WRITE_MS < QUICK_TIMEOUT_MS,
  'a save waits for the grant store for less time than a refresh': QUICK_TIMEOUT_MS < GRANT_STORE_TIMEOUT_MS,
  'a store that never calls back fails one operation, not the next one too':
    LOCK_TIMEOUT_MS < STORE_TIMEOUT_MS,
  'a process stores again what a failover has lost before another process may refresh':
    SAMPLE_EVERY_MS + 2 * LAST_RETRY_MS < HOLD_OFF_MS,
  'a refresh ahead of expiry looks again when a lease of a dead process has run out':
    LEASE_MS <= AHEAD_RETRY_MS,
  'a caller with a valid token waits for less time': DEFAULT_PATIENCE_MS < DEFAULT_TIMEOUT_MS,
  'a caller outlasts the lease of a process that has died': LEASE_MS + GRACE_MS < DEFAULT_TIMEOUT_MS,
  'the recent ends are read within the time that a valid token waits for them':
    SUBSCRIBE_PATIENCE_MS < CATCH_UP_PATIENCE_MS,
  'no end leaves the list of recent ends between two looks at it': 10 * NEWS_CHECK_MS < RECENT_ENDS_MS,
  'a request in steady use does not wait for encryptionKeys':
    RELOAD_AFTER_MS + RELOAD_TIMEOUT_MS < WAIT_FOR_KEYS_AFTER_MS,
  'a request that waits for a secret still gets its token in time':
    RELOAD_TIMEOUT_MS + RELOAD_PAUSE_MS < DEFAULT_TIMEOUT_MS,
  'a refresh goes on when its caller has given up': DEFAULT_TIMEOUT_MS < DEFAULT_REFRESH_TIMEOUT_MS,
}

for (const [rule, holds] of Object.entries(RULES)) {
  if (!holds) throw new Error(`The time constants break a rule: ${rule}.`)
}

import { DAY_MS, duration } from '../options/option-kinds.js'
import { checkOptions, type OptionTable } from '../options/option-table.js'

/** The options of `req.tokens.offlineReference()`. */
export interface OfflineReferenceOptions {
  /**
   * For how long the grant store keeps the tokens from now on, and after each refresh by the reference, in milliseconds: the longest
   * time between two uses of the reference. At most 3,650 days. Default: as long as the session could come back.
   */
  ttlMs?: number
}

const OPTIONS = {
  ttlMs: duration(0, { least: 0, most: 3_650 * DAY_MS }),
} satisfies OptionTable<OfflineReferenceOptions>

/** @throws `ConfigurationError` that says what to change */
export function checkOfflineReferenceOptions(
  given: OfflineReferenceOptions,
): Required<OfflineReferenceOptions> {
  return checkOptions(given, OPTIONS, {
    of: 'offlineReference()',
    takes: 'offlineReference() takes an object: offlineReference({ ttlMs: 30 * 24 * 60 * 60 * 1000 })',
  })
}

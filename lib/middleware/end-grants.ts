import { ConfigurationError } from '../errors/token-error.js'
import type { EndedWhom } from '../manager/ends-of-users.js'
import { oneOf } from '../options/option-kinds.js'
import { ownValue } from '../options/own-properties.js'
import type { MiddlewareContext } from './composition.js'
import { Tenants } from './tenants.js'

/**
 * The logins to end: all of a user (the `sub` of the ID token), those of one login at the authorization server (`sid`), or one
 * (`grantId`, as in events). `tenant` names the tenant, and is for `sessionTokens()` with tenants alone.
 */
export type EndedLogins = (
  | { readonly sub: string; readonly sid?: undefined; readonly grantId?: undefined }
  | { readonly sid: string; readonly sub?: undefined; readonly grantId?: undefined }
  | { readonly grantId: string; readonly sub?: undefined; readonly sid?: undefined }
) & { readonly tenant?: string }

/** Why logins are ended. Events have it as the `reason`. */
export type LoginEndReason = 'logged_out' | 'backchannel_logout'

/** The type of the method `end()` of `sessionTokens()`. */
export type EndLogins = (whom: EndedLogins, reason?: LoginEndReason) => Promise<number>

const NAMES = ['sub', 'sid', 'grantId'] as const
const checkReason = oneOf(['logged_out', 'backchannel_logout'])

/** Returns the `end()` of a middleware. */
export function endOf(parts: MiddlewareContext | Tenants<never>): EndLogins {
  return async (whom, reason) => {
    const checked = checkedWhom(whom)
    const why = checkReason(reason, 'reason', {})
    const tenant = ownValue(whom, 'tenant')
    if (!(parts instanceof Tenants)) {
      if (tenant !== undefined) throw noTenantsError()
      await parts.keys?.prepare()
      return parts.manager.endsOfUsers.end(checked, why)
    }
    if (typeof tenant !== 'string' || tenant === '') throw tenantRequiredError()
    return parts.use(tenant, async ({ keys, manager }) => {
      await keys?.prepare()
      return manager.endsOfUsers.end(checked, why)
    })
  }
}

function checkedWhom(whom: unknown): EndedWhom {
  const given = NAMES.filter((name) => ownValue(whom as object, name) !== undefined)
  const [name] = given
  const value = name && ownValue(whom as object, name)
  const others = Object.keys(Object(whom)).filter((key) => !['tenant', ...NAMES].includes(key))
  if (given.length === 1 && typeof value === 'string' && value !== '' && others.length === 0) {
    return { [name as string]: value } as unknown as EndedWhom
  }
  throw new ConfigurationError(
    'end() takes exactly one name, a string that is not empty: end({ sub }), end({ sid }) or end({ grantId }). Nothing has ended.',
  )
}

function tenantRequiredError(): ConfigurationError {
  return new ConfigurationError(
    'With tenants, end() needs the name of the tenant: end({ tenant, sub }). Nothing has ended.',
  )
}

function noTenantsError(): ConfigurationError {
  return new ConfigurationError(
    '`tenant` is for sessionTokens() with tenants. Leave it out: end({ sub }). Nothing has ended.',
  )
}

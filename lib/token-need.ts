import { ConfigurationError } from './errors.js'
import { ownOptions } from './own-options.js'
import { ownProperties } from './own-properties.js'
import type { TokenNeed } from './token-set.js'

const NEED = [
  'scope',
  'resource',
  'audience',
  'minValidityMs',
  'rejected',
] as const satisfies readonly (keyof TokenNeed)[]

/** What a need says of which token it is about, if it does. */
export function namedIn({ scope, resource, audience }: TokenNeed): TokenNeed | undefined {
  if (scope === undefined && resource === undefined && audience === undefined) return undefined
  return ownProperties({
    ...(scope !== undefined && { scope }),
    ...(resource !== undefined && { resource }),
    ...(audience !== undefined && { audience }),
  })
}

/** The need, with each scope once and single spaces between them; without a scope if there is none in it. */
export function checkedNeed(given: TokenNeed): TokenNeed {
  if (typeof given !== 'object' || given === null) {
    throw new ConfigurationError("The need of a token must be an object, e.g. { scope: 'orders.read' }.")
  }
  ownOptions(given, NEED, 'The need of a token')
  const need = ownProperties(given)
  const { scope, resource, audience, minValidityMs, rejected } = need
  for (const [name, value] of Object.entries({ scope, resource, audience, rejected })) {
    if (value !== undefined && typeof value !== 'string') {
      throw new ConfigurationError(`\`${name}\` must be a string, or left out.`)
    }
  }
  if (minValidityMs !== undefined && !Number.isFinite(minValidityMs)) {
    throw new ConfigurationError(
      '`minValidityMs` must be a number of milliseconds, e.g. minValidityMs: 60000.',
    )
  }
  if (scope === undefined) return need
  const scopes = new Set(scope.split(/\s+/).filter(Boolean))
  const { scope: _, ...rest } = need
  return ownProperties(scopes.size === 0 ? rest : { ...rest, scope: [...scopes].join(' ') })
}

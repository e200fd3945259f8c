import { ConfigurationError } from './errors.js'
import { refuseUnknown } from './spelling.js'
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
  return {
    ...(scope !== undefined && { scope }),
    ...(resource !== undefined && { resource }),
    ...(audience !== undefined && { audience }),
  }
}

/** The need, with each scope once and single spaces between them; without a scope if there is none in it. */
export function checkedNeed(need: TokenNeed): TokenNeed {
  if (typeof need !== 'object' || need === null) {
    throw new ConfigurationError("The need of a token must be an object, e.g. { scope: 'orders.read' }.")
  }
  refuseUnknown(need, NEED, 'The need of a token')
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
  const { scope: _, ...rest } = need
  const scopes = new Set(scope.split(/\s+/).filter(Boolean))
  return scopes.size === 0 ? rest : { ...rest, scope: [...scopes].join(' ') }
}

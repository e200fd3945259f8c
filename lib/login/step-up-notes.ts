import { createHash } from 'node:crypto'
import type { StepUp } from '../errors/token-error.js'
import { ownProperties } from '../options/own-properties.js'
import type { NamedRequirement } from './begin.js'
import type { Note } from './browser-notes.js'
import type { LoginRequest } from './login-request.js'
import type { LoginParts } from './parts.js'
import { TRANSACTION_MS } from './transaction.js'

/** The requirement of an API, noted for a browser. A login that is to meet the requirement is begun with the name of the note. */
interface StepUpNote extends Note {
  readonly requirement: StepUp
  /** When a login has met it, in milliseconds since the epoch. */
  readonly metAt?: number
}

/** If an API repeats its requirement within this time after a login has met it, another login would not help. */
const CIRCLE_MS = 10_000

/** Names a requirement. Equal ones have one name, so that the parallel calls of a page make one note. */
export function named(stepUp: StepUp): NamedRequirement {
  const { acrValues, claims, maxAge, scope } = ownProperties(stepUp)
  const requirement = {
    ...(acrValues !== undefined && { acrValues }),
    ...(maxAge !== undefined && { maxAge }),
    ...(scope !== undefined && { scope }),
    ...(claims !== undefined && { claims }),
  }
  const hash = createHash('sha256').update(JSON.stringify(requirement)).digest('base64url')
  return { name: `up-${hash.slice(0, 16)}`, requirement }
}

/** The longest requirement that is noted, as JSON. A browser drops a cookie of more than 4 KB, and the login would not ask for it. */
const MAX_LENGTH = 2_500

export function fitsIntoCookie({ requirement }: NamedRequirement): boolean {
  return JSON.stringify(requirement).length <= MAX_LENGTH
}

/** Notes a requirement, so that `GET /login` finds it by its name. */
export function noteRequirement(
  { notes }: LoginParts,
  request: LoginRequest,
  { name, requirement }: NamedRequirement,
): Promise<void> {
  return notes.write<StepUpNote>(request, name, { beganAt: Date.now(), requirement })
}

/** Returns the requirement that was noted for this browser under a name. Nothing else of a query becomes a parameter. */
export function requirementNamed(
  { notes }: LoginParts,
  request: LoginRequest,
  name: string | null,
): NamedRequirement | undefined {
  const note = name?.startsWith('up-') ? notes.read<StepUpNote>(request, name) : undefined
  if (!note || Date.now() - note.beganAt > TRANSACTION_MS) return undefined
  return { name: name!, requirement: note.requirement }
}

/** Notes that a login has met the requirement with this name, so that {@link wasJustMet} finds it. */
export async function noteMet({ notes }: LoginParts, request: LoginRequest, name: string): Promise<void> {
  const now = Date.now()
  await notes.write<StepUpNote>(request, name, { beganAt: now, requirement: {}, metAt: now })
}

/** Whether a login has met the requirement with this name a few seconds ago. Then another login would not help. */
export function wasJustMet({ notes }: LoginParts, request: LoginRequest, name: string): boolean {
  const metAt = notes.read<StepUpNote>(request, name)?.metAt
  return metAt !== undefined && Date.now() - metAt < CIRCLE_MS
}

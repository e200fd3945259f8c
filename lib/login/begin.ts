import { ConfigurationError, type StepUp } from '../errors/token-error.js'
import { returnPath } from '../middleware/return-path.js'
import { type AuthorizationParameters, authorizationRequest } from './authorization.js'
import { type LoginRequest, queryOf, type Reply, redirect, tokensOf } from './login-request.js'
import { failed } from './page.js'
import type { LoginParts } from './parts.js'
import { requirementNamed } from './step-up-notes.js'
import { newTransaction } from './transaction.js'

/** A {@link StepUp} that an API requires, and the name of the note that holds it for the next login (step-up-notes.ts). */
export interface NamedRequirement {
  readonly name: string
  readonly requirement: StepUp
}

/**
 * Handles `GET /login`. Only two parameters of its query count: `returnTo` is the path to return to, and `stepUp` names a noted
 * requirement of an API.
 */
export async function login(parts: LoginParts, request: LoginRequest): Promise<Reply> {
  const query = queryOf(request.path)
  const stepUp = requirementNamed(parts, request, query.get('stepUp'))
  return beginLogin(parts, request, query.get('returnTo') ?? undefined, stepUp)
}

/**
 * Begins a login: stores its {@link Transaction}, and returns a redirect to the authorization server, or the response to a
 * failure.
 */
export async function beginLogin(
  parts: LoginParts,
  request: LoginRequest,
  returnTo: string | undefined,
  stepUp?: NamedRequirement,
): Promise<Reply> {
  const { notes, options, provider } = parts
  // These throw now, rather than when the user comes back.
  const held = tokensOf(request, options.property)
  parts.sessionOf(request)
  const { authorization } = options
  const given =
    typeof authorization === 'function' ? await authorization(request.carrier as never) : authorization
  const { checks, parameters } = authorizationRequest(given as AuthorizationParameters, stepUp?.requirement)
  const dpopKey = await held.newDpopKey()
  if (dpopKey && !options.encryptionKeys) throw unsealedKeyError()
  const transaction = newTransaction({
    returnTo: pathToReturnTo(parts, returnTo),
    ...checks,
    ...(stepUp && { stepUp: stepUp.name }),
    ...(dpopKey && { dpopKey }),
    ...(options.transactions === 'session' && !held.hasTokens() && { isOfVisitor: true }),
  })
  try {
    const url = await provider.authorizationUrl(parameters, transaction)
    await notes.write(request, nameOf(transaction.state), transaction)
    return redirect(url.href)
  } catch (error) {
    return failed(parts, request, error)
  }
}

function unsealedKeyError(): ConfigurationError {
  return new ConfigurationError(
    'With the option `dpop` of sessionTokens(), login() notes a private key for each login that is under way. Give login() the ' +
      '`encryptionKeys` of sessionTokens() as well.',
  )
}

/** Returns the name of the note that holds a transaction. */
export function nameOf(state: string): string {
  return state.slice(0, 16)
}

/** A longer path would not fit into the cookie of a transaction. */
const MAX_RETURN_PATH = 1_000

/** Returns the path of this app to return to. The login's own paths would lead into a circle. */
function pathToReturnTo({ options, paths }: LoginParts, given: string | undefined): string {
  const path = returnPath(given, options.afterLogin)
  const [pathname = '/'] = path.split(/[?#]/, 1)
  const isOwn = Object.values(paths).includes(pathname)
  return isOwn || path.length > MAX_RETURN_PATH ? options.afterLogin : path
}

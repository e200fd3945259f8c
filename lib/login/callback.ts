import { nameOf } from './begin.js'
import { formOf } from './form.js'
import { keptIn, picked } from './kept-in-session.js'
import { LoginError } from './login-error.js'
import { type LoginRequest, queryOf, type Reply, redirect, tokensOf } from './login-request.js'
import { failed } from './page.js'
import type { LoginParts } from './parts.js'
import type { CompletedLogin } from './provider.js'
import { noteMet } from './step-up-notes.js'
import { REMEMBERED_MS, TRANSACTION_MS, type Transaction, usedTransaction } from './transaction.js'
import { hashOf } from './userinfo.js'

/** Handles the response of the authorization server. The response comes in the query of a GET, or as a form in a POST. */
export async function callback(parts: LoginParts, request: LoginRequest): Promise<Reply> {
  try {
    const isForm = request.message.method === 'POST'
    const parameters = isForm ? await formOf(request) : queryOf(request.path)
    const transaction = transactionOf(parts, request, parameters.getAll('state'))
    // A logged-in user may open the callback again, for example by the back button or a bookmark. They are sent on to the app.
    if (
      transaction === undefined ||
      transaction.isUsed ||
      parts.used.has(transaction.state) ||
      hasLoggedInSince(parts, request, transaction)
    ) {
      return arrivedBefore(parts, request, transaction)
    }
    return await finish(parts, request, transaction, parameters)
  } catch (error) {
    return failed(parts, request, error)
  }
}

function transactionOf(
  { notes }: LoginParts,
  request: LoginRequest,
  states: readonly string[],
): Transaction | undefined {
  const [state = '', another] = states
  if (!/^[\w-]{43}$/.test(state) || another !== undefined) return undefined
  const transaction = notes.read<Transaction>(request, nameOf(state))
  return transaction?.state === state ? transaction : undefined
}

/**
 * Whether a login was begun in a visitor's session, and a user has logged in there since. An attacker may have begun it, and may
 * have planted the visitor's session in this browser.
 */
function hasLoggedInSince(
  { options }: LoginParts,
  request: LoginRequest,
  { isOfVisitor }: Transaction,
): boolean {
  return isOfVisitor === true && tokensOf(request, options.property).hasTokens()
}

function arrivedBefore(
  { options }: LoginParts,
  request: LoginRequest,
  transaction: Transaction | undefined,
): Reply {
  const { afterLogin, property } = options
  if (tokensOf(request, property).hasTokens()) return redirect(transaction?.returnTo ?? afterLogin)
  throw new LoginError(transaction ? 'used' : 'unknown', { returnTo: transaction?.returnTo })
}

async function finish(
  parts: LoginParts,
  request: LoginRequest,
  transaction: Transaction,
  parameters: URLSearchParams,
): Promise<Reply> {
  const { notes, provider, used } = parts
  const { beganAt, returnTo, state } = transaction
  // The transaction is marked as used first, whatever the result of the login is.
  used.set(state, true)
  await notes.write(request, nameOf(state), usedTransaction(transaction))
  if (Date.now() - beganAt > TRANSACTION_MS) throw new LoginError('expired', { returnTo })
  // An authorization server that gets a code twice may revoke the tokens of the first time (RFC 6749 §4.1.2).
  const isFirst = await tokensOf(request, parts.options.property).isFirstUse(state, REMEMBERED_MS)
  if (!isFirst) throw new LoginError('used', { returnTo })
  const completed = await provider.complete(parameters, transaction)
  await enter(parts, request, completed, transaction)
  if (transaction.stepUp !== undefined) await noteMet(parts, request, transaction.stepUp)
  return redirect(returnTo)
}

/** Logs the user in: gives the session another id, calls `onLogin`, and stores the tokens. */
async function enter(
  parts: LoginParts,
  request: LoginRequest,
  { claims, tokens }: CompletedLogin,
  { dpopKey, returnTo }: Transaction,
): Promise<void> {
  const { options, provider } = parts
  const { keepFields, onLogin, property, sessionClaims, sessionKey } = options
  const held = tokensOf(request, property)
  const session = parts.sessionOf(request)
  const kept = keptIn(session, sessionKey)
  const data = session.data()
  const isLoggedIn = held.hasTokens()
  // A user whose tokens have expired is still another user, and so is one whom the app has put into the session itself.
  const users = isLoggedIn ? [kept.sub, held.idTokenClaims?.sub ?? kept.sub] : [kept.sub ?? claims.sub]
  const isOthers = users.some((sub) => sub !== claims.sub)
  try {
    // Another user's data is dropped. Of a visitor's data the named fields are kept. If the same user is still logged in, all
    // data is kept.
    await session.renew({
      ...(!isOthers && (isLoggedIn ? data : picked({ ...data }, keepFields))),
      [sessionKey]: {
        sub: claims.sub,
        user: picked(claims, sessionClaims),
        ...(options.userinfo && { userinfoOf: hashOf(tokens.id_token) }),
        ...(!isOthers && kept.notes && { notes: kept.notes }),
      },
    })
    if ((await onLogin?.(tokens, claims, request.carrier as never)) === false) {
      throw new LoginError('refused', { returnTo })
    }
    await held.set(tokens, dpopKey && { dpopKey })
  } catch (error) {
    provider.discard(tokens)
    const isRefused = error instanceof LoginError
    try {
      if (isRefused) await held.clear()
    } finally {
      // onLogin may have noted a user who is not logged in.
      if (isRefused || isOthers || !isLoggedIn) await session.end()
    }
    throw error
  }
}

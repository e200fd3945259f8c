import { abortedError, raceAbort } from '../../concurrency/abortable.js'
import { RELOAD_TIMEOUT_MS } from '../../concurrency/time-constants.js'
import { withTimeout } from '../../concurrency/with-timeout.js'
import { ConfigurationError, TokenError } from '../../errors/token-error.js'
import { optional, text } from '../../options/option-kinds.js'
import { checkOptions, type Option, type OptionTable } from '../../options/option-table.js'
import { isJsonObject, type JsonObject, ownProperties } from '../../options/own-properties.js'
import type { ExchangeRequest } from '../authorization-server.js'
import type { FormParameters } from './token-endpoint.js'

/** A token that names the actor, and its type. */
export interface ActorToken {
  readonly token: string
  /** The URI of the token's type (RFC 8693 §3). Default: that of an access token. */
  readonly tokenType?: string
}

/** A token exchange (RFC 8693 §2.1): the token that the authorization server is to give for the session's own access token. */
export interface ExchangeOptions {
  /** The API that the token is for, by the name that the authorization server has for it; several names in an array. */
  audience?: string | readonly string[]
  /** The API that the token is for, an absolute URI; several URIs in an array. */
  resource?: string | readonly string[]
  /** The scopes of the token, separated by spaces. */
  scope?: string
  /** The URI of the type that the token is to have (RFC 8693 §3). Default: the authorization server decides. */
  requestedTokenType?: string
  /**
   * The party that acts for the user. `'client'` sends the client's own token (client credentials). A function returns the token of
   * another party, and is called for each exchange.
   */
  actor?: 'client' | (() => string | ActorToken | Promise<string | ActorToken>)
}

/** The names that are sent first. */
export const FIRST_OF_EXCHANGE = ['grant_type', 'subject_token', 'subject_token_type']
const TYPES = 'urn:ietf:params:oauth:token-type:'
const ACCESS_TOKEN = `${TYPES}access_token`
/** The types of tokens that are for no API unless they were requested. */
const FOR_NO_API: readonly unknown[] = ['refresh_token', 'id_token', 'saml1', 'saml2'].map(
  (type) => TYPES + type,
)

const OPTIONS = {
  audience: checkAudience,
  resource: checkResource,
  scope: optional(text('invoices.read')),
  requestedTokenType: optional(checkRequestedType),
  actor: optional(checkActor),
} satisfies OptionTable<ExchangeOptions>

const CURES = {
  requested_token_type: 'Did you mean `requestedTokenType`?',
  actorToken: 'Did you mean `actor`? It is a function.',
  actor_token: 'Did you mean `actor`? It is a function.',
}

/**
 * Checks the option `exchanges`.
 *
 * @throws `ConfigurationError` that says what to change
 */
export function checkExchanges(given: unknown): Readonly<Record<string, ExchangeOptions>> {
  const takes = "`exchanges` must be an object, e.g. exchanges: { billing: { audience: 'billing' } }"
  if (!isJsonObject(given)) throw new ConfigurationError(`${takes}.`)
  const checked = Object.entries(given).map(([name, exchange]) => {
    const usage = {
      of: `The exchange \`${name}\``,
      takes: `The exchange \`${name}\` must be an object, e.g. { audience: 'billing' }`,
      cures: CURES,
    }
    return [name, checkOptions(exchange as ExchangeOptions, OPTIONS, usage)] as const
  })
  return ownProperties(Object.fromEntries(checked)) as Readonly<Record<string, ExchangeOptions>>
}

function checkAudience(...[value, name]: Parameters<Option>): unknown {
  const isGiven = (it: unknown) => typeof it === 'string' && it.trim() !== ''
  return eachOf(value, isGiven, `\`${name}\` must be a name or an array of names, e.g. audience: 'billing'.`)
}

function checkResource(...[value, name]: Parameters<Option>): unknown {
  const isUri = (it: unknown) => typeof it === 'string' && URL.canParse(it) && !it.includes('#')
  const message = `\`${name}\` must be an absolute URI without a fragment, or an array of them, e.g. resource: 'https://billing.example.com'.`
  return eachOf(value, isUri, message)
}

function eachOf(value: unknown, isRight: (value: unknown) => boolean, message: string): unknown {
  const values = value === undefined ? [] : [value].flat()
  if (Array.isArray(value) && value.length === 0) throw new ConfigurationError(message)
  if (values.every(isRight)) return value
  throw new ConfigurationError(message)
}

function checkActor(actor: unknown): unknown {
  if (actor === 'client' || typeof actor === 'function') return actor
  throw new ConfigurationError(
    "`actor` must be 'client', for the client's own token, or a function that returns a token, e.g. actor: () => readFile(path, 'utf8').",
  )
}

function checkRequestedType(type: unknown): unknown {
  if (type === `${TYPES}refresh_token`) {
    throw new ConfigurationError(
      '`requestedTokenType` must not be that of a refresh token: the exchange brings a token for an API, and is repeated when ' +
        'the token expires. Leave it out.',
    )
  }
  if (typeof type === 'string' && URL.canParse(type)) return type
  throw new ConfigurationError(
    `\`requestedTokenType\` must be the URI of a type (RFC 8693 §3), e.g. requestedTokenType: '${TYPES}jwt'.`,
  )
}

const isText = (value: unknown) => typeof value === 'string' && value !== ''

/** Makes the parameters of an exchange. Asks for the token of the actor first, if the exchange has one. */
export async function parametersOfExchange(
  name: string,
  { actor, audience, requestedTokenType, resource, scope }: ExchangeOptions,
  subjectToken: string,
  clientToken: ExchangeRequest['clientToken'],
  signal: AbortSignal,
): Promise<FormParameters> {
  const acting =
    actor === 'client'
      ? { token: (await clientToken()).token, tokenType: ACCESS_TOKEN }
      : actor && (await actorToken(name, actor, signal))
  return {
    grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
    subject_token: subjectToken,
    subject_token_type: ACCESS_TOKEN,
    scope,
    resource,
    audience,
    requested_token_type: requestedTokenType,
    ...(acting && { actor_token: acting.token, actor_token_type: acting.tokenType ?? ACCESS_TOKEN }),
  }
}

/**
 * Returns the flaw in the type of the token that an exchange has brought (RFC 8693 §2.2.1). A token of another type must not be
 * sent to an API: it may be a refresh token. Some servers name no type.
 */
export function flawOfIssued(fields: JsonObject, requested: string | undefined): string | undefined {
  const { access_token: token, issued_token_type: issued, refresh_token: besides } = fields
  // The first exchange of Keycloak names the refresh token, which it sends besides the access token.
  if (issued === `${TYPES}refresh_token` && isText(besides) && besides !== token) return undefined
  const isAccessToken = [undefined, null, requested, ACCESS_TOKEN, `${TYPES}jwt`].includes(issued as string)
  const isOfServer = requested === undefined && typeof issued === 'string' && !FOR_NO_API.includes(issued)
  return isAccessToken || isOfServer ? undefined : 'has a token of another type (issued_token_type)'
}

const tooSlow = () => new TypeError(`It took more than ${RELOAD_TIMEOUT_MS} ms.`)

async function actorToken(name: string, actor: () => unknown, signal: AbortSignal): Promise<ActorToken> {
  const what = `The function \`actor\` of the exchange \`${name}\``
  let made: unknown
  try {
    const asked = raceAbort(Promise.resolve(actor()), signal, () => abortedError(signal, what))
    made = await withTimeout(RELOAD_TIMEOUT_MS, asked, tooSlow)
  } catch (cause) {
    // It says nothing about the authorization server, so that the refreshes of other users go on.
    throw new ConfigurationError(`${what} failed, so nothing was sent. The cause says why.`, {
      cause,
      causeMessage: cause instanceof TypeError || cause instanceof TokenError,
    })
  }
  const token =
    typeof made === 'string' ? { token: made.trim() } : isJsonObject(made) ? ownProperties(made) : {}
  const { tokenType } = token as { tokenType?: unknown }
  const isRight = typeof token.token === 'string' && token.token !== ''
  if (isRight && (tokenType === undefined || (typeof tokenType === 'string' && URL.canParse(tokenType)))) {
    return token as unknown as ActorToken
  }
  throw new ConfigurationError(
    `${what} must return a token, or { token, tokenType } with the URI of its type (RFC 8693 §3). Nothing was sent.`,
  )
}

import { ConfigurationError } from '../errors.js'
import { ownProperties } from '../own-properties.js'
import type { ClientCredentials } from './client-authentication.js'

/** Parameters of a form by their names on the wire. What is `undefined` or empty is not sent (RFC 6749 §3.2). */
export type FormParameters = Readonly<Record<string, string | readonly string[] | undefined>>

/** The names and values of a form, in the order they are sent. */
export type Form = readonly (readonly [name: string, value: string])[]

/** Parameters whose values may be shown; those of all others are taken for secrets. */
const PUBLIC = new Set([
  'audience',
  'client_assertion_type',
  'client_id',
  'grant_type',
  'redirect_uri',
  'resource',
  'scope',
  'token_type_hint',
  'username',
])

/**
 * Orders a form: what the request is about, then the client authentication, then `scope` and `resource`, then the
 * rest.
 *
 * @param own The names that come first, in their order.
 */
export function orderedForm(given: FormParameters, own: readonly string[], client: ClientCredentials): Form {
  const last = ['scope', 'resource']
  const parameters = ownProperties(given)
  const clientParameters = ownProperties(client.parameters ?? {})
  const inFront = new Set([...own, ...last, ...Object.keys(clientParameters)])
  const extras = Object.keys(parameters).filter((name) => !inFront.has(name))
  for (const name of [...own, ...last]) {
    if (Object.hasOwn(clientParameters, name)) {
      throw new ConfigurationError(
        `clientAuthentication must not set the parameter ${name}, which belongs to the request itself. Leave it out.`,
      )
    }
  }
  return [
    ...entries(parameters, own),
    ...entries(clientParameters, Object.keys(clientParameters)),
    ...entries(parameters, [...last, ...extras]),
  ]
}

/** Encodes a form as application/x-www-form-urlencoded (RFC 6749 appendix B). */
export function encodedForm(form: Form): string {
  return new URLSearchParams(form.map(([name, value]): [string, string] => [name, value])).toString()
}

/** Everything in a request that no error may show. */
export function secretsOfRequest(form: Form, client: ClientCredentials): string[] {
  const inForm = form.filter(([name]) => !PUBLIC.has(name)).map(([, value]) => value)
  const inHeaders = Object.values(client.headers ?? {}).flatMap((value) => [
    value,
    value.split(' ').at(-1) ?? '',
  ])
  return [...inForm, ...inHeaders, ...(client.secrets ?? [])]
}

function entries(parameters: FormParameters, names: readonly string[]): [string, string][] {
  return names.flatMap((name) =>
    [Object.hasOwn(parameters, name) ? (parameters[name] ?? []) : []]
      .flat()
      .map((value) => checkedValue(name, value))
      .filter((value) => value !== '')
      .map((value): [string, string] => [name, value]),
  )
}

function checkedValue(name: string, value: unknown): string {
  if (typeof value === 'string') return value
  throw new ConfigurationError(
    `The parameter ${name} of a token request must be a string, or an array of strings.`,
  )
}

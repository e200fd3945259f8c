/** What the compiler says of options that construction refuses. Nothing here runs. */
import {
  type AcquireParameters,
  type ConfigurationError,
  clientSecretBasic,
  type ExtensionGrantRequest,
  memoryGrantStore,
  type SessionTokensOptions,
  type StepUpError,
  sessionTokens,
} from 'session-token-manager'

const issuer = 'https://idp.example.com'
const tokenEndpoint = 'https://idp.example.com/token'
const client = { clientId: 'web', clientAuthentication: clientSecretBasic('secret') }
const grants = memoryGrantStore()
const adopt = () => undefined
const tenant = () => 'acme'

export function optionsOfTheServer() {
  sessionTokens({ issuer, ...client })
  sessionTokens({ tokenEndpoint, ...client })
  // @ts-expect-error: neither is given
  sessionTokens({ ...client })
  // @ts-expect-error: both are given
  sessionTokens({ issuer, tokenEndpoint, ...client })
}

export function optionsOfTheGrantStore() {
  sessionTokens({ issuer, ...client, keep: 'session', adopt })
  sessionTokens({ issuer, ...client, keep: 'store', grants })
  // @ts-expect-error: it needs a grant store
  sessionTokens({ issuer, ...client, keep: 'store' })
  // @ts-expect-error: the tokens to adopt are in the session already
  sessionTokens({ issuer, ...client, keep: 'store', grants, adopt })
}

export function optionsOfTenants() {
  const one: SessionTokensOptions = { issuer, ...client, leewayMs: 5 }
  sessionTokens({ tenant, options: () => one, maxTenants: 5 })
  sessionTokens({ tenant, options: async () => one })
  // @ts-expect-error: it needs the options of a tenant
  sessionTokens({ tenant })
  // @ts-expect-error: one of both kinds
  sessionTokens({ tenant, options: () => one, issuer, ...client })
}

export function secretsFromVaults() {
  const clientAuthentication = clientSecretBasic(async () => 'secret')
  sessionTokens({ issuer, clientId: 'web', clientAuthentication, encryptionKeys: () => ['key'] })
  sessionTokens({ issuer, clientId: 'web', clientAuthentication, encryptionKeys: async () => ['key'] })
  // @ts-expect-error: a list of keys
  sessionTokens({ issuer, ...client, encryptionKeys: () => 'key' })
  // @ts-expect-error: a text
  clientSecretBasic(() => 5)
}

export function parametersOfAcquire(): AcquireParameters[] {
  const grant_type = 'urn:ietf:params:oauth:grant-type:device_code'
  const device: ExtensionGrantRequest<{ device_code: string }> = { grant_type, device_code: 'code' }
  // @ts-expect-error: device_code is missing
  const wrong: ExtensionGrantRequest<{ device_code: string }> = { grant_type }
  // @ts-expect-error: it must be a text
  const pushed: AcquireParameters = { grant_type: 'authorization_code', code: 'code', request_uri: 5 }
  const request_uri = 'urn:ietf:params:oauth:request_uri:1'
  return [device, wrong, pushed, { grant_type: 'authorization_code', code: 'code', request_uri }]
}

export function otherNames() {
  // @ts-expect-error: did you mean leewayMs?
  sessionTokens({ issuer, ...client, leewayMS: 5 })
}

export function codesOfErrors(error: StepUpError | ConfigurationError): string | undefined {
  return error.code === 'ERR_STEP_UP_REQUIRED' ? error.acrValues : error.message
}

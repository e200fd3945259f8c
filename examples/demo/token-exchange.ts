import { createRemoteJWKSet, jwtVerify } from 'jose'
import type { errors, Provider } from 'oidc-provider'
import type { ProtectedApi } from './authorization-server.js'

export const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'

/** Has the authorization server give a token with fewer scopes in exchange for one that it has issued to the client (RFC 8693). */
export function exchangeTokens(
  provider: Provider,
  apis: readonly ProtectedApi[],
  { InvalidGrant, InvalidTarget }: Pick<typeof errors, 'InvalidGrant' | 'InvalidTarget'>,
): void {
  const { issuer } = provider
  const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`))
  const parameters = ['subject_token', 'subject_token_type', 'resource', 'scope']

  provider.registerGrantType(
    TOKEN_EXCHANGE,
    async (ctx) => {
      const { client } = ctx.oidc
      const params = ctx.oidc.params as Readonly<Record<string, string | undefined>>
      const subject = await jwtVerify(String(params.subject_token), keys, { issuer, typ: 'at+jwt' })
        .then(({ payload }) => payload)
        .catch(() => undefined)
      if (subject?.client_id !== client!.clientId) throw new InvalidGrant('no token of this client')
      const api = apis.find(({ resource }) => resource === params.resource)
      if (!api) throw new InvalidTarget()
      const { resource, scope } = api
      const token = new provider.AccessToken({
        client: client!,
        accountId: subject!.sub!,
        grantId: '',
        gty: 'token_exchange',
        scope: params.scope ?? scope,
      })
      const jwt = { sign: { alg: 'ES256' as const } }
      token.resourceServer = new provider.ResourceServer(resource, {
        audience: resource,
        scope,
        accessTokenFormat: 'jwt',
        jwt,
      })
      ctx.body = {
        access_token: await token.save(),
        issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
        token_type: 'Bearer',
        expires_in: token.expiration,
        scope: token.scope,
      }
    },
    parameters,
  )
}

import { errors } from 'oidc-provider'
import validateDpop, { checkDpopReplay } from 'oidc-provider/lib/helpers/validate_dpop.js'
import { type AuthorizationServer, startAuthorizationServer } from './authorization-server.js'

export const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const TYPE = 'urn:ietf:params:oauth:token-type:'

/** An authorization server that exchanges access tokens (RFC 8693). */
export interface ExchangingServer extends AuthorizationServer {
  /** The parameters of every exchange so far, as they arrived. */
  exchanges(): URLSearchParams[]
  /** The parameters of every refresh so far. */
  refreshRequests(): URLSearchParams[]
}

const PARAMETERS = [
  ...['audience', 'resource', 'scope', 'requested_token_type'],
  ...['subject_token', 'subject_token_type', 'actor_token', 'actor_token_type'],
]

/**
 * Starts oidc-provider with a grant of its own for exchanges: it takes an access token that it has issued to the client and that is
 * active. The audience `forbidden` is refused. The new token belongs to the grant of the old one, and to the key of its proof, if there
 * is one.
 */
export async function startExchangingServer(
  options: Parameters<typeof startAuthorizationServer>[0] = {},
): Promise<ExchangingServer> {
  const server = await startAuthorizationServer({
    ...options,
    grantTypes: [TOKEN_EXCHANGE, ...(options.grantTypes ?? [])],
  })
  const { provider } = server
  provider.registerGrantType(
    TOKEN_EXCHANGE,
    async (ctx) => {
      const { client } = ctx.oidc
      const params = ctx.oidc.params as Record<string, string | undefined>
      const proof = await validateDpop(provider, ctx)
      const subject = await provider.AccessToken.find(String(params.subject_token))
      if (!subject || subject.clientId !== client!.clientId) throw new errors.InvalidGrant('no such token')
      if (subject.jkt !== proof?.thumbprint) throw new errors.InvalidGrant('not the key of the token')
      await checkDpopReplay(provider, ctx, proof, client!.clientId)
      if (params.audience === 'forbidden') throw new errors.InvalidTarget('not for this client')
      const { accountId, grantId } = subject
      const scope = params.scope === undefined ? 'invoices.read' : String(params.scope)
      const token = new provider.AccessToken({
        client: client!,
        accountId,
        grantId: grantId!,
        gty: 'exchange',
        scope,
      })
      if (proof) token.setThumbprint('jkt', proof.thumbprint)
      ctx.body = {
        access_token: await token.save(),
        issued_token_type: `${TYPE}access_token`,
        token_type: token.tokenType,
        expires_in: token.expiration,
      }
    },
    PARAMETERS,
    ['audience', 'resource'],
  )
  const ofType = (grantType: string) =>
    server.tokenRequests.filter((request) => request.grantType === grantType).map((it) => it.parameters)
  return {
    ...server,
    exchanges: () => ofType(TOKEN_EXCHANGE),
    refreshRequests: () => ofType('refresh_token'),
  }
}

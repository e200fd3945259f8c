/** What a grant type of one's own needs of oidc-provider to check proofs of possession (RFC 9449 §5). */
declare module 'oidc-provider/lib/helpers/validate_dpop.js' {
  import type { KoaContextWithOIDC, Provider } from 'oidc-provider'

  interface Proof {
    readonly thumbprint: string
    readonly jti: string
  }

  export default function validateDpop(
    provider: Provider,
    ctx: KoaContextWithOIDC,
  ): Promise<Proof | undefined>
  export function checkDpopReplay(
    provider: Provider,
    ctx: KoaContextWithOIDC,
    proof: Proof | undefined,
    clientId: string,
  ): Promise<void>
}

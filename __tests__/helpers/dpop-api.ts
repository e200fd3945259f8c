import { createHash, randomUUID } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { calculateJwkThumbprint, EmbeddedJWK, type JWK, jwtVerify } from 'jose'
import type { AuthorizationServer } from './authorization-server.js'
import { json, type WireHandler, type WireServer, wireServer } from './wire-server.js'

/** What a request has to prove. */
interface Arrived {
  readonly method: string
  readonly path: string
  readonly headers: IncomingHttpHeaders
}

/** An API that takes tokens with a proof alone (RFC 9449 §7), each proof once. */
export interface DpopApi extends WireServer {
  /** The nonce that proofs must have. Default: none. */
  nonce: string | undefined
  /** The statuses and error codes of the responses, in order. */
  readonly verdicts: string[]
  /** What it responds to a request that it accepts. */
  answer: WireHandler
  /** What it refuses although the proof is right. */
  rejects: (token: string) => boolean
  /** The origin that its proofs are for. Default: that of its URL. */
  origin: string
  /** Checks a request. Resolves with the error code, or with nothing. */
  verify(request: Arrived): Promise<string | undefined>
}

/** Starts the API of an authorization server. */
export async function startDpopApi(server: AuthorizationServer): Promise<DpopApi> {
  const seen = new Set<string>()
  const wire = await wireServer(async (request, response) => {
    const error = await api.verify(request)
    const nonce = api.nonce === undefined ? {} : { 'DPoP-Nonce': api.nonce }
    api.verdicts.push(error ?? 'ok')
    if (error === undefined) {
      for (const [name, value] of Object.entries(nonce)) response.setHeader(name, value)
      await api.answer(request, response)
      return
    }
    // Names of schemes and parameters are case-insensitive (RFC 9110 §11.1, §11.2).
    const challenge = `Bearer, dpop ERROR="${error}", algs="ES256"`
    json(response, { error }, 401, { 'WWW-Authenticate': challenge, ...nonce })
  })
  const api: DpopApi = Object.assign(wire, {
    nonce: undefined,
    origin: wire.url,
    verdicts: [],
    answer: (_, response) => json(response, { orders: [] }),
    rejects: () => false,
    async verify({ headers, method, path }) {
      const [, token = ''] = /^DPoP (.+)$/.exec(headers.authorization ?? '') ?? []
      const { AccessToken, ClientCredentials } = server.provider
      const found = (await AccessToken.find(token)) ?? (await ClientCredentials.find(token))
      const bound = found as { jkt?: string } | undefined
      if (!bound?.jkt) return 'invalid_token'
      try {
        const { payload, protectedHeader } = await jwtVerify(headers.dpop as string, EmbeddedJWK, {
          typ: 'dpop+jwt',
          algorithms: ['ES256', 'EdDSA', 'PS256'],
        })
        const { ath, htm, htu, jti = '', nonce } = payload
        if (nonce !== api.nonce) return 'use_dpop_nonce'
        const { pathname } = new URL(path, api.origin)
        const isRight =
          ath === createHash('sha256').update(token).digest('base64url') &&
          htm === method &&
          htu === `${api.origin}${pathname}` &&
          (await calculateJwkThumbprint(protectedHeader.jwk as JWK)) === bound.jkt &&
          !seen.has(jti)
        seen.add(jti)
        if (!isRight) return 'invalid_dpop_proof'
        return api.rejects(token) ? 'invalid_token' : undefined
      } catch {
        return 'invalid_dpop_proof'
      }
    },
  } satisfies Omit<DpopApi, keyof WireServer>)
  return api
}

export function newNonce(): string {
  return `nonce-${randomUUID()}`
}

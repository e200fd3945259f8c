import { randomUUID } from 'node:crypto'
import { type JWTVerifyGetKey, jwtVerify, type KeyObject, type CryptoKey as SigningKey } from 'jose'
import { json, type WireRequest, type WireServer, wireServer } from './wire-server.js'

/** How the application in the identity domain is registered to authenticate. */
export type Registration =
  | { readonly kind: 'confidential'; readonly secret: string }
  /** Signs its assertions; they are verified with the key. */
  | {
      readonly kind: 'assertion'
      readonly verify: SigningKey | KeyObject | Uint8Array | JWTVerifyGetKey
      readonly formClientId?: string
    }
  /** Was given an assertion by the identity provider. */
  | { readonly kind: 'ready-made assertion'; readonly assertion: string; readonly formClientId?: string }
  | { readonly kind: 'public' }

export interface OracleIdentityDomain {
  readonly url: string
  readonly tokenEndpoint: string
  readonly requests: readonly WireRequest[]
  /** What was found wrong with the requests that were refused. */
  readonly refusals: readonly string[]
  close(): Promise<void>
}

const PATH = '/oauth2/v1/token'
const CONTENT_TYPE = 'application/x-www-form-urlencoded;charset=UTF-8'
const ASSERTION_TYPE = 'urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer'
const JWT_BEARER = 'urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer'
const VALUE = '[A-Za-z0-9*._%+-]+'

/** The bodies of the documented requests; `CLIENT` is where the client authenticates. */
const GRANTS = {
  refresh_token: `grant_type=refresh_token&refresh_token=(?<refresh_token>${VALUE})CLIENT(?:&scope=${VALUE})?`,
  authorization_code:
    `grant_type=authorization_code&code=(?<code>${VALUE})&redirect_uri=${VALUE}` +
    `(?:&code_verifier=${VALUE})?CLIENT`,
  password: `grant_type=password&username=${VALUE}&password=(?<password>${VALUE})CLIENT&scope=(?<scope>${VALUE})`,
  'jwt-bearer': `grant_type=${JWT_BEARER}&assertion=(?<assertion>${VALUE})CLIENT&scope=(?<scope>${VALUE})`,
}

/**
 * A stand-in for the token endpoint of an Oracle identity domain, as strict as can be: whatever differs from the
 * documented requests, by a header or a byte of the body, is refused with 400. A refresh token is good for one use; the
 * second ends its grant. The code is `the-code`, the password `the-password`, the user assertion `the-assertion`.
 */
export async function oracleIdentityDomain(
  clientId: string,
  registration: Registration,
): Promise<OracleIdentityDomain> {
  const refusals: string[] = []
  const seenJtis = new Set<string>()
  /** The grant of each refresh token ever issued; of a live grant only the newest is good. */
  const grantOf = new Map<string, string>()
  const newest = new Map<string, string>()

  const server: WireServer = await wireServer(async (request, response) => {
    const refuse = (error: string, why: string) => {
      refusals.push(why)
      json(response, { error, error_description: why }, 400)
    }
    const flaw = flawOfHeaders(request, clientId, registration)
    if (flaw) return refuse('invalid_request', flaw)
    const form = matchedForm(request.body, registration)
    if (!form) return refuse('invalid_request', 'body')
    const unauthenticated = await flawOfClient(form, clientId, registration, server, seenJtis)
    if (unauthenticated) return refuse('invalid_client', unauthenticated)
    const grant = form.refresh_token === undefined ? firstGrant(form) : refreshedGrant(form.refresh_token)
    if (!grant) return refuse('invalid_grant', 'grant')
    json(response, issued(grant, form))
  })

  function refreshedGrant(refreshToken: string): string | undefined {
    const grant = grantOf.get(refreshToken)
    if (grant === undefined || newest.get(grant) === refreshToken) return grant
    newest.delete(grant)
    return undefined
  }

  function issued(grant: string, form: Record<string, string>) {
    const answer = { access_token: `at-${randomUUID()}`, token_type: 'Bearer', expires_in: 3600 }
    const offline = form.scope === undefined || form.scope.split(' ').includes('offline_access')
    if (!offline) return answer
    const refreshToken = `rt+/=& %"${randomUUID()}`
    grantOf.set(refreshToken, grant)
    newest.set(grant, refreshToken)
    return { ...answer, refresh_token: refreshToken }
  }

  return {
    url: server.url,
    tokenEndpoint: `${server.url}${PATH}`,
    requests: server.requests,
    refusals,
    close: server.close,
  }
}

function flawOfHeaders(
  { method, path, headers }: WireRequest,
  clientId: string,
  registration: Registration,
): string | undefined {
  if (method !== 'POST') return 'method'
  if (path !== PATH) return 'path'
  if (headers['content-type'] !== CONTENT_TYPE) return 'content-type'
  const authorization =
    registration.kind === 'confidential'
      ? `Basic ${Buffer.from(`${clientId}:${registration.secret}`).toString('base64')}`
      : undefined
  return headers.authorization === authorization ? undefined : 'authorization'
}

/** The decoded parameters of a body that has one of the documented forms, byte for byte. */
function matchedForm(body: string, { kind }: Registration): Record<string, string> | undefined {
  const client = {
    confidential: '',
    public: `&client_id=(?<client_id>${VALUE})`,
    assertion: `&client_id=(?<client_id>${VALUE})&client_assertion_type=${ASSERTION_TYPE}&client_assertion=(?<client_assertion>${VALUE})`,
  }[kind === 'ready-made assertion' ? 'assertion' : kind]
  for (const form of Object.values(GRANTS)) {
    const matched = new RegExp(`^${form.replace('CLIENT', client)}$`).exec(body)
    if (matched) return Object.fromEntries(new URLSearchParams(body))
  }
  return undefined
}

async function flawOfClient(
  form: Record<string, string>,
  clientId: string,
  registration: Registration,
  server: WireServer,
  seenJtis: Set<string>,
): Promise<string | undefined> {
  if (registration.kind === 'confidential') return undefined
  const formClientId = 'formClientId' in registration ? registration.formClientId : undefined
  if (form.client_id !== (formClientId ?? clientId)) return 'client_id'
  if (registration.kind === 'public') return undefined
  if (registration.kind === 'ready-made assertion') {
    return form.client_assertion === registration.assertion ? undefined : 'client_assertion'
  }
  try {
    const { payload } = await jwtVerify(form.client_assertion ?? '', registration.verify as KeyObject, {
      issuer: clientId,
      subject: clientId,
      audience: `${server.url}${PATH}`,
      requiredClaims: ['exp', 'iat', 'jti'],
      maxTokenAge: '5 minutes',
    })
    if (seenJtis.has(payload.jti as string)) return 'jti'
    seenJtis.add(payload.jti as string)
    return undefined
  } catch {
    return 'client_assertion'
  }
}

function firstGrant({ code, password, assertion }: Record<string, string>): string | undefined {
  const good = code === 'the-code' || password === 'the-password' || assertion === 'the-assertion'
  return good ? randomUUID() : undefined
}

import { TokenError } from '../../lib/errors/token-error.js'
import type { AuthorizationServer } from '../../lib/oauth/authorization-server.js'

/** Lets something else happen first. */
export type Step = (what: string) => Promise<void>

/** What befalls a refresh: the connection breaks before the server has seen it, or after it has answered. */
export type RefreshFault = 'none' | 'lost before' | 'lost after' | 'busy'

/** A grant, as the model authorization server sees it. */
export interface ModelGrant {
  readonly name: string
  readonly user: string
  /** How often it was rotated. */
  rotations: number
  ended: boolean
  /** An answer to a refresh was lost: the client cannot know its newest refresh token. */
  answerLost: boolean
  /** The number of the newest token that reached the client. */
  delivered: number
}

/** A refresh token that reached the client at a moment. */
export interface Delivery {
  readonly grant: ModelGrant
  readonly refreshToken: string
  readonly at: number
}

/**
 * An authorization server with rotation and reuse detection. Its tokens are named after their grant and rotation, such
 * as `at.g1-alice.3`, and every message to and from it takes a step.
 */
export class ModelAuthorizationServer implements AuthorizationServer {
  readonly grants = new Map<string, ModelGrant>()
  readonly deliveries: Delivery[] = []
  /** What was revoked, each token as often as it was sent. */
  readonly revocations: string[] = []
  readonly violations: string[] = []
  /** What befalls the next refreshes. */
  readonly faults: RefreshFault[] = []
  readonly #presented = new Set<string>()
  readonly #step: Step
  readonly #moment: () => number

  constructor(step: Step, moment: () => number) {
    this.#step = step
    this.#moment = moment
  }

  /** The token response of a login. */
  login(user: string) {
    const name = `g${this.grants.size + 1}-${user}`
    const grant = { name, user, rotations: 1, ended: false, answerLost: false, delivered: 1 }
    this.grants.set(name, grant)
    return {
      grant,
      response: {
        access_token: `at.${name}.1`,
        refresh_token: `rt.${name}.1`,
        id_token: idToken(user),
        expires_in: 3600,
      },
    }
  }

  async refresh(refreshToken: string) {
    const grant = this.#grantOf(refreshToken)
    const fault = this.faults.shift() ?? 'none'
    await this.#step(`refresh ${refreshToken} arrives`)
    if (fault === 'lost before') throw unavailable()
    await this.#checkOneUse(refreshToken, grant)
    if (fault === 'busy') {
      await this.#step('busy is answered')
      throw unavailable()
    }
    if (this.#presented.has(refreshToken)) grant.ended = true
    this.#presented.add(refreshToken)
    const refused = grant.ended
    if (!refused) grant.rotations++
    const number = grant.rotations
    if (fault === 'lost after') grant.answerLost = true
    await this.#step(`refresh ${refreshToken} is answered`)
    if (fault === 'lost after') throw unavailable()
    if (refused)
      throw new TokenError('ERR_REAUTHENTICATION_REQUIRED', 'invalid_grant', { error: 'invalid_grant' })
    const next = `rt.${grant.name}.${number}`
    grant.delivered = Math.max(grant.delivered, number)
    this.deliveries.push({ grant, refreshToken: next, at: this.#moment() })
    const accessToken = `at.${grant.name}.${number}`
    return {
      accessToken,
      refreshToken: next,
      lifetimeMs: 3_600_000,
      ...(number % 2 === 0 && { idToken: idToken(grant.user) }),
    }
  }

  async revoke(token: string): Promise<void> {
    await this.#step(`revoke ${token}`)
    this.revocations.push(token)
    this.#grantOf(token).ended = true
    await this.#step('revocation is answered')
  }

  async signatureOf() {
    return { verdict: 'good' } as const
  }

  signatureOfLogoutToken(): never {
    throw new Error('not part of the model')
  }

  endSessionEndpoint(): never {
    throw new Error('not part of the model')
  }

  acquire(): never {
    throw new Error('not part of the model')
  }

  clientCertificate(): never {
    throw new Error('not modelled')
  }

  clientCredentials(): never {
    throw new Error('not part of the model')
  }

  exchange(): never {
    throw new Error('not part of the model')
  }

  async #checkOneUse(refreshToken: string, grant: ModelGrant): Promise<void> {
    if (this.#presented.has(refreshToken) && !grant.answerLost) {
      this.violations.push(`I1: ${refreshToken} was presented twice`)
    }
  }

  #grantOf(token: string): ModelGrant {
    const grant = this.grants.get(grantNameOf(token))
    if (!grant) throw new Error(`no such token: ${token}`)
    return grant
  }
}

/** The grant in a token's name. */
export function grantNameOf(token: string): string {
  return token.split('.')[1] ?? ''
}

/** The rotation in a token's name. */
export function numberOf(token: string): number {
  return Number(token.split('.')[2])
}

function idToken(user: string): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  return `${part({ alg: 'none' })}.${part({ iss: 'https://idp.example', sub: user, aud: 'web' })}.`
}

function unavailable(): TokenError {
  return new TokenError('ERR_TOKEN_ENDPOINT_UNAVAILABLE', 'The connection broke.')
}

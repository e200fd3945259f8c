import {
  grantNameOf,
  type ModelAuthorizationServer,
  type ModelGrant,
  numberOf,
} from './model-authorization-server.js'

/** Something that took time. */
interface Interval {
  readonly began: number
  ended: number
}

/** A request from its arrival to its answer. */
export interface Visit extends Interval {
  readonly browser: number
  /** Its session was found in the store. */
  found: boolean
  /** The session was regenerated in it. */
  regenerated: boolean
  /** It was regenerated from a session without tokens. */
  carriedNothing: boolean
}

export interface Login extends Interval {
  readonly visit: Visit
  readonly grant: ModelGrant
  readonly sid: string
  failed: boolean
}

export interface Logout extends Interval {
  readonly visit: Visit
  readonly kind: 'revoke' | 'clear' | 'destroy'
  failed: boolean
}

/** Why and since when a grant must be dead. */
export interface Death {
  readonly at: number
  readonly by: 'revoke' | 'clear' | 'destroy' | 'login'
}

const NEVER = Number.POSITIVE_INFINITY

/** What happened, in order, and what follows from it for who must be logged in. */
export class ModelHistory {
  readonly visits: Visit[] = []
  readonly logins: Login[] = []
  readonly logouts: Logout[] = []
  readonly deaths = new Map<ModelGrant, Death>()
  readonly violations: string[] = []
  /** The number of the newest token of each grant that a request was given. */
  readonly #given = new Map<ModelGrant, number>()
  #now = 0

  moment(): number {
    this.#now += 1
    return this.#now
  }

  visit(browser: number): Visit {
    const visit = {
      browser,
      began: this.moment(),
      ended: NEVER,
      found: true,
      regenerated: false,
      carriedNothing: false,
    }
    this.visits.push(visit)
    return visit
  }

  login(visit: Visit, grant: ModelGrant, sid: string): Login {
    const login = { visit, grant, sid, began: this.moment(), ended: NEVER, failed: false }
    this.logins.push(login)
    return login
  }

  logout(visit: Visit, kind: Logout['kind']): Logout {
    const logout = { visit, kind, began: this.moment(), ended: NEVER, failed: false }
    this.logouts.push(logout)
    return logout
  }

  died(grant: ModelGrant | undefined, by: Death['by'], details: Partial<Death> = {}): void {
    if (grant && !this.deaths.has(grant)) this.deaths.set(grant, { at: this.moment(), by, ...details })
  }

  /** Watches a call for a token: whose it is, that its grant has not ended, that it is not older than one given before. */
  async token(
    server: ModelAuthorizationServer,
    visit: Visit,
    call: () => Promise<{ token: string }>,
  ): Promise<string> {
    const began = this.moment()
    const given = new Map(this.#given)
    const { token } = await call()
    const grant = server.grants.get(grantNameOf(token))!
    const login = this.logins.find((login) => login.grant === grant)
    if (login?.visit.browser !== visit.browser)
      this.violations.push(`I4: ${token} was given to another browser`)
    const death = this.deaths.get(grant)
    if (death && death.at < began)
      this.violations.push(`I4: ${token} was given after its grant ended by ${death.by}`)
    const number = numberOf(token)
    const floor = given.get(grant) ?? 0
    if (number < floor) this.violations.push(`I2: ${token} was given after at.${grant.name}.${floor}`)
    this.#given.set(grant, Math.max(number, this.#given.get(grant) ?? 0))
    return token
  }

  /** Whether another request regenerated the session during this one, and may have carried away what was in it before. */
  mayHaveMoved(visit: Visit): boolean {
    return this.visits.some((other) => other !== visit && other.regenerated && overlap(other, visit))
  }

  /**
   * Whether a request went on without tokens because another one had regenerated the session meanwhile: what is left
   * under the old id, and what a slow request saves there, has none.
   */
  #wasLeftBehind(visit: Visit): boolean {
    return visit.carriedNothing && this.mayHaveMoved(visit)
  }

  /** Whether somebody may have logged out of a grant, or logged in as somebody else. */
  mayHaveEnded(grant: ModelGrant): boolean {
    const login = this.logins.find((login) => login.grant === grant)!
    return (
      this.deaths.has(grant) ||
      this.#maybeLoggedOut(login) ||
      this.logins.some(
        (other) =>
          other.visit.browser === login.visit.browser &&
          other.ended > login.began &&
          other.grant.user !== grant.user,
      )
    )
  }

  /** The logins of a browser of which none is known to have come before another. */
  latestLogins(browser: number): Login[] {
    const logins = this.logins.filter((login) => login.visit.browser === browser && !login.failed)
    return logins.filter((login) => !logins.some((later) => this.#isBefore(login, later)))
  }

  #isBefore(login: Login, later: Login): boolean {
    if (this.mayHaveMoved(later.visit)) return false
    return login.sid === later.sid ? login.ended < later.began : login.visit.ended < later.visit.began
  }

  #maybeLoggedOut(login: Login): boolean {
    return this.logouts.some(
      ({ visit, ended }) => visit.browser === login.visit.browser && ended > login.began,
    )
  }

  /** The grants that a browser may hold. */
  possibleGrants(browser: number): Set<ModelGrant> {
    const failed = this.logins.filter((login) => login.visit.browser === browser && login.failed)
    return new Set([...this.latestLogins(browser), ...failed].map(({ grant }) => grant))
  }

  /** Whether nothing explains it if the browser is logged out. */
  mustBeLoggedIn(browser: number): boolean {
    const logins = this.latestLogins(browser)
    return (
      logins.length > 0 &&
      !this.visits.some((visit) => visit.browser === browser && this.#wasLeftBehind(visit)) &&
      logins.every(
        (login) => !login.grant.answerLost && !this.#maybeLoggedOut(login) && !this.mayHaveMoved(login.visit),
      )
    )
  }
}

function overlap(one: Visit, other: Visit): boolean {
  return one.browser === other.browser && one.began < other.ended && one.ended > other.began
}

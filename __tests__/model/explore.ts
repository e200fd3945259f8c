/** Something that may happen in a state. */
export interface Step<S> {
  readonly what: string
  readonly state: S
  /** It comes from outside and may as well never happen: a request, a crash. All other steps are due. */
  readonly fromOutside?: boolean
}

/** What can be explored. States are immutable, and there are finitely many. */
export interface Model<S> {
  readonly initial: readonly S[]
  steps(state: S): Step<S>[]
  /** Equal for states that are the same. */
  key(state: S): string
  /** What is wrong with a state. */
  violation(state: S): string | undefined
  /** Whether nothing is left to be done. */
  isAtRest(state: S): boolean
}

export interface Exploration {
  readonly states: number
  /** What is wrong, and the shortest way there. */
  readonly violation?: { readonly what: string; readonly trace: readonly string[] }
}

/**
 * Goes through all that can happen, breadth first, until something is wrong.
 *
 * Besides what the model calls a violation these are: a state that is not at rest and in which nothing is due (a
 * deadlock), and one to which what is due leads back (work that need never end).
 */
export function explore<S>(model: Model<S>): Exploration {
  const paths = new Paths()
  const due = new Edges()
  let frontier: [index: number, state: S][] = []
  const visit = (state: S, from: number, what: string): number => {
    const key = model.key(state)
    const known = paths.find(key)
    if (known !== undefined) return known
    const index = paths.add(key, from, what)
    next.push([index, state])
    return index
  }
  let next: typeof frontier = []
  for (const state of model.initial) visit(state, -1, '')
  while (next.length > 0) {
    frontier = next
    next = []
    for (const [index, state] of frontier) {
      const steps = model.steps(state)
      const isStuck = !model.isAtRest(state) && steps.every(({ fromOutside }) => fromOutside)
      const what = model.violation(state) ?? (isStuck ? 'deadlock: nothing is due' : undefined)
      if (what) return paths.violation(what, index)
      for (const step of steps) {
        const to = visit(step.state, index, step.what)
        if (!step.fromOutside) due.add(index, to)
      }
    }
  }
  const endless = due.firstBeforeACycle(paths.size)
  return endless === undefined
    ? { states: paths.size }
    : paths.violation('livelock: what is due may never be done', endless)
}

/** How each state was reached first. */
class Paths {
  readonly #indexes = new Map<string, number>()
  readonly #from: number[] = []
  readonly #what: string[] = []

  get size(): number {
    return this.#what.length
  }

  find(key: string): number | undefined {
    return this.#indexes.get(key)
  }

  add(key: string, from: number, what: string): number {
    this.#indexes.set(key, this.size)
    this.#from.push(from)
    return this.#what.push(what) - 1
  }

  violation(what: string, index: number): Exploration {
    const trace: string[] = []
    for (let i = index; this.#from[i]! >= 0; i = this.#from[i]!) trace.unshift(this.#what[i]!)
    return { states: this.size, violation: { what, trace } }
  }
}

/** Which state leads to which. */
class Edges {
  readonly #from: number[] = []
  readonly #to: number[] = []

  add(from: number, to: number): void {
    this.#from.push(from)
    this.#to.push(to)
  }

  /** Takes away the states that lead nowhere, again and again. What is left leads into a cycle. */
  firstBeforeACycle(states: number): number | undefined {
    const leads = new Int32Array(states)
    const firstInto = new Int32Array(states).fill(-1)
    const nextInto = new Int32Array(this.#to.length)
    for (const [edge, to] of this.#to.entries()) {
      leads[this.#from[edge]!]! += 1
      nextInto[edge] = firstInto[to]!
      firstInto[to] = edge
    }
    const dead = [...leads.keys()].filter((state) => leads[state] === 0)
    for (let state = dead.pop(); state !== undefined; state = dead.pop()) {
      for (let edge = firstInto[state]!; edge >= 0; edge = nextInto[edge]!) {
        const from = this.#from[edge]!
        leads[from]! -= 1
        if (leads[from] === 0) dead.push(from)
      }
    }
    const left = leads.findIndex((count) => count > 0)
    return left < 0 ? undefined : left
  }
}

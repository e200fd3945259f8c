import type { Chronicle } from './chronicle.js'
import { lookOnceMore } from './last-look.js'
import type { SiteProcesses } from './site-processes.js'
import { openStage, type Stage, type StageOptions } from './stage.js'
import { watchForStalls } from './stalls.js'
import type { TokenDesk } from './token-desk.js'
import { judge, type Verdict } from './verdict.js'
import { Visitor } from './visitor.js'

export interface ChaosOptions extends StageOptions {
  readonly sessions: number
  /** How many sessions are there at a time. */
  readonly parallel: number
  /** No session begins after so long. */
  readonly maxMs?: number
  readonly onProgress?: (progress: Progress) => void
}

export interface Progress {
  readonly phase: 'chaos' | 'last look'
  readonly begun: number
  readonly over: number
  readonly looked: number
  readonly refreshes: number
  readonly chronicle: Chronicle
}

export interface ChaosResult extends Verdict {
  readonly sessions: number
  readonly logins: number
  readonly logouts: number
  readonly refreshes: number
  readonly presentations: number
  readonly tookMs: number
  readonly chronicle: Chronicle
}

const LOOKS_AT_A_TIME = 12
/** What processes note beside the library's events. */
const OUR_OWN = ['committed', 'long write', 'stored', 'heard', 'end heard']

/** Runs a site of several processes with many visitors, has things go wrong, and judges what came of it. */
export async function runChaos(options: ChaosOptions): Promise<ChaosResult> {
  const began = Date.now()
  const stage = await openStage(options)
  const progress = { phase: 'chaos' as Progress['phase'], begun: 0, over: 0, looked: 0 }
  const { chronicle, desk } = stage
  const report = () => options.onProgress?.({ ...progress, refreshes: desk.refreshes, chronicle })
  const reporting = setInterval(report, 1_000)
  const watch = watchForStalls((from, to) => {
    chronicle.noteAt(from, `this very run stood still for ${(to - from).toFixed(0)} ms`)
    chronicle.count('stalled: the run itself')
  })
  try {
    const visitors = await visit(stage, options, progress)
    progress.phase = 'last look'
    await lookAtAll(visitors, stage, progress)
    const verdict = await judge(stage)
    report()
    return { ...verdict, ...sums(desk), sessions: visitors.length, tookMs: Date.now() - began, chronicle }
  } finally {
    clearInterval(reporting)
    clearInterval(watch)
    await stage.close()
  }
}

async function visit(
  stage: Stage,
  { sessions, parallel, maxMs = Number.POSITIVE_INFINITY, oneRedis }: ChaosOptions,
  progress: { begun: number; over: number },
): Promise<Visitor[]> {
  const visitors: Visitor[] = []
  const until = Date.now() + maxMs
  stage.saboteur.start()
  await inParallel(parallel, async () => {
    while (visitors.length < sessions && Date.now() < until) {
      const index = visitors.length
      const visitor = new Visitor(index, stage.plan.session(index), { ...stage, sessionsMayFail: oneRedis })
      visitors.push(visitor)
      progress.begun++
      await visitor.run()
      progress.over++
    }
  })
  return visitors
}

async function lookAtAll(visitors: Visitor[], stage: Stage, progress: { looked: number }): Promise<void> {
  const { chronicle, desk, saboteur, processes } = stage
  chronicle.note('from here on nothing goes wrong any more')
  desk.calm = true
  processes.calm()
  await saboteur.end()
  processes.readEvents()
  const left = visitors.toReversed()
  await inParallel(LOOKS_AT_A_TIME, async () => {
    for (let visitor = left.pop(); visitor; visitor = left.pop()) {
      await lookOnceMore(visitor, stage)
      progress.looked++
    }
  })
  processes.readEvents()
  noteEvents(processes, desk, chronicle)
}

async function inParallel(count: number, work: () => Promise<void>): Promise<void> {
  await Promise.all(Array.from({ length: count }, work))
}

/** What the libraries told goes into the traces of the sessions. */
function noteEvents(processes: SiteProcesses, desk: TokenDesk, chronicle: Chronicle): void {
  const sessions = new Map(desk.grants.map(({ libraryId, session }) => [libraryId, session]))
  for (const { name, events } of processes.incarnations.values()) {
    for (const { at, type, grantId, revision, code, message, refreshToken } of events) {
      if (!OUR_OWN.includes(type)) chronicle.count(`event: ${type}`)
      const session = sessions.get(grantId)
      if (session === undefined) continue
      const owner = refreshToken === undefined ? undefined : desk.ownerOfRefreshToken(refreshToken)
      const tokens = owner && `${owner.grant.login}/${owner.issue.serial}`
      const details = [revision, tokens, code, message].filter((detail) => detail !== undefined).join(' ')
      chronicle.noteAt(at, `${name} tells: ${type} ${details}`, session)
    }
  }
}

function sums({ grants, refreshes }: TokenDesk) {
  return {
    logins: grants.filter(({ loggedInAt }) => loggedInAt !== undefined).length,
    logouts: grants.filter(({ logout }) => logout).length,
    refreshes,
    presentations: grants.reduce((sum, { presentations }) => sum + presentations.length, 0),
  }
}

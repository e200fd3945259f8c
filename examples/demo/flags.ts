/** The programs that `npm start --` can start, with their flags. */
const STARTS = {
  demo: ['--tour'],
  cluster: ['--cluster', '--tour', '--workers'],
  gateway: ['--gateway'],
}
const HELP = ['--help', '-h']
export type Start = keyof typeof STARTS | 'help'

/** Where a program listens: the environment variable PORT, or 3000. */
export const PORT = Number(process.env.PORT || 3000)

/** How long an access token lives, in seconds: the environment variable ACCESS_TOKEN_SECONDS, or 5. */
export const ACCESS_TOKEN_SECONDS = Number(process.env.ACCESS_TOKEN_SECONDS || 5)

export const USAGE = `npm start                             the demo, in the browser
npm start -- --tour                   its trip without a browser, printed
npm start -- --cluster [--workers 4]  the demo in several processes; with --tour its trip
npm start -- --gateway                a single-page app that never sees a token
npm start -- --help                   this list

The environment variable PORT names another port than 3000. ACCESS_TOKEN_SECONDS says how long access
tokens of the demo live, in place of 5 seconds.`

/** Reads a command line. Throws for a misspelt flag, or a flag of another program. */
export function startAskedFor(args: readonly string[]): Start {
  // The cluster reads the number of workers.
  const flags = args.filter((_, index) => args[index - 1] !== '--workers').map((arg) => arg.split('=', 1)[0]!)
  if (flags.some((flag) => HELP.includes(flag))) return 'help'
  const known = ['--help', ...new Set(Object.values(STARTS).flat())]
  const unknown = flags.find((flag) => !known.includes(flag))
  if (unknown !== undefined) {
    const letter = unknown.replace(/^-+/, '').charAt(0).toLowerCase()
    const meant = known.find((flag) => flag.charAt(2) === letter)
    throw new Error(
      `Unknown flag ${unknown}. ${meant ? `Did you mean ${meant}?` : `Known are ${known.join(', ')}.`}`,
    )
  }
  const start = flags.includes('--gateway') ? 'gateway' : flags.includes('--cluster') ? 'cluster' : 'demo'
  const stray = flags.find((flag) => !STARTS[start].includes(flag))
  if (stray !== undefined) throw new Error(`${stray} does not go with the ${start}.`)
  return start
}

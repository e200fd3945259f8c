import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'

const cwd = join(import.meta.dirname, '../..')
const children: ChildProcess[] = []

/** Starts a command, in a process group of its own so that nothing of it is left over. */
export function run(command: string, parameters: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const child = spawn(command, parameters, {
    cwd,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    // Jest sets FORCE_COLOR, and Node.js says so on stderr where NO_COLOR is set as well.
    env: { ...process.env, FORCE_COLOR: undefined, ...env },
  })
  children.push(child)
  return child
}

/** What a command printed, and its exit code. */
export async function printedBy(child: ReturnType<typeof run>) {
  const [stdout, stderr, [exitCode]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit'),
  ])
  return { stdout, stderr, exitCode: exitCode as number | null }
}

/** The first URL that a command prints. */
export async function firstUrl(printed: Readable): Promise<string> {
  for await (const line of createInterface(printed)) {
    const [url] = /http:[^\s,]+/.exec(line) ?? []
    if (url) return url
  }
  throw new Error('the command ended without saying where it listens')
}

/** Kills what still runs. */
export function killCommands(): void {
  for (const { pid, exitCode, signalCode } of children.splice(0)) {
    if (pid !== undefined && exitCode === null && signalCode === null) process.kill(-pid, 'SIGKILL')
  }
}

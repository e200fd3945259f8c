import { type ChildProcess, spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Where the first of some programs is that is on PATH. */
export function onPath(...names: string[]): string | undefined {
  const directories = (process.env.PATH ?? '').split(delimiter)
  return names.flatMap((name) => directories.map((path) => join(path, name))).find(isExecutable)
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** Has a child killed when this process goes, however it goes, and whether or not the child is stopped by then. */
export function dieTogether(child: ChildProcess): void {
  // The watchman reads until this process' end of the pipe is closed.
  const watchman = spawn('/bin/sh', ['-c', 'read -r _; kill -9 "$0"', String(child.pid)], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  })
  watchman.unref()
  child.once('exit', () => watchman.kill('SIGKILL'))
}

/** Resolves when a child has gone, at once if it has already. */
export function gone(child: ChildProcess): Promise<void> {
  if (hasGone(child)) return Promise.resolve()
  return new Promise((resolve) => void child.once('exit', () => resolve()))
}

export function hasGone(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null
}

import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'

const FOLDER = join(import.meta.dirname, '../peers')

/** Installs the peers that are too large for the project's own `npm ci`, unless they are there. */
export function installPeers(): void {
  if (existsSync(join(FOLDER, 'node_modules'))) return
  console.log('Installing the peers of bench/peers …')
  execFileSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: FOLDER, stdio: 'inherit' })
}

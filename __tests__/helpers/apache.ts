import { spawn } from 'node:child_process'
import { chmodSync, existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { dieTogether, gone } from './child-process.js'
import { describeIf } from './describe-if.js'
import { freePort } from './free-port.js'

/** Where Debian has Apache and its modules. */
const APACHE = '/usr/sbin/apache2'
const MODULES = '/usr/lib/apache2/modules'
const NEEDED = ['mpm_event', 'authn_core', 'authz_core', 'authz_user', 'oauth2']
const STARTS_WITHIN_MS = 10_000

/** An API behind Apache's mod_oauth2, which takes tokens with a DPoP proof alone (RFC 9449 §7). */
export interface ApacheApi {
  readonly url: string
  close(): Promise<void>
}

/** Starts an Apache whose mod_oauth2 checks JWTs with the keys of an authorization server, and the proofs that come with them. */
export async function startApacheApi(jwksUri: string): Promise<ApacheApi> {
  const home = await mkdtemp(join(tmpdir(), 'apache-'))
  chmodSync(home, 0o755)
  await mkdir(join(home, 'www'))
  await writeFile(join(home, 'www', 'orders'), '["an order"]')
  const port = await freePort()
  const configuration = [
    `ServerRoot ${home}`,
    ...NEEDED.map((name) => `LoadModule ${name}_module ${MODULES}/mod_${name}.so`),
    `Listen 127.0.0.1:${port}`,
    'ServerName 127.0.0.1',
    `PidFile ${home}/pid`,
    `ErrorLog ${home}/error.log`,
    `DocumentRoot ${home}/www`,
    ...(process.getuid?.() === 0 ? ['User www-data', 'Group www-data'] : []),
    '<Location />',
    '  AuthType oauth2',
    '  OAuth2AcceptTokenIn header type=DPoP',
    `  OAuth2TokenVerify jwks_uri ${jwksUri} type=dpop`,
    '  Require valid-user',
    '</Location>',
  ]
  const file = join(home, 'apache.conf')
  await writeFile(file, `${configuration.join('\n')}\n`)
  const child = spawn(APACHE, ['-f', file, '-D', 'FOREGROUND'], { stdio: 'inherit' })
  dieTogether(child)
  await untilOpen(port)
  return {
    url: `http://127.0.0.1:${port}`,
    async close() {
      child.kill('SIGTERM')
      await gone(child)
      await rm(home, { recursive: true, force: true })
    },
  }
}

async function untilOpen(port: number): Promise<void> {
  for (const until = Date.now() + STARTS_WITHIN_MS; Date.now() < until; await delay(50)) {
    const isOpen = await new Promise((resolve) => {
      const socket = connect(port, '127.0.0.1', () => resolve(true))
      socket.once('error', () => resolve(false))
      socket.once('connect', () => socket.destroy())
    })
    if (isOpen) return
  }
  throw new Error('Apache does not listen.')
}

/** Tests with Apache and its mod_oauth2. */
export function describeWithApache(name: string, tests: () => void): void {
  const isThere = existsSync(APACHE) && existsSync(join(MODULES, 'mod_oauth2.so'))
  describeIf(isThere, 'No Apache with mod_oauth2 (Debian: libapache2-mod-oauth2)', name, tests)
}

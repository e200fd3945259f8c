import { it } from '@jest/globals'
import { type Browser, chromium } from 'playwright-core'
import { onPath } from './child-process.js'

const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

const executablePath = onPath('chromium', 'chromium-browser', 'google-chrome')
if (!executablePath) {
  const missing = 'No Chromium on PATH: the pages of the examples are not tested in a browser.'
  if (process.env.CI === 'true') throw new Error(missing)
  process.stderr.write(`${missing}\n`)
}

/** A developer's machine may have no browser; where CI is true, its absence is an error. */
export const hasChromium = executablePath !== undefined

/** A test that needs a browser; skipped, with a visible line, where there is none. */
export const inChromium: typeof it.only = hasChromium ? it : it.skip

/** A headless browser. */
export function launchChromium(): Promise<Browser> {
  return chromium.launch({ executablePath: executablePath!, args: ARGUMENTS })
}

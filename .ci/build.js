// Builds dist/ without a moment in which a file is missing or half written: others may be running from it.
import { execSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'

const filesIn = (directory) =>
  readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)))

// On the file system of dist/, so that a rename moves a file in one step.
const fresh = mkdtempSync('dist-')
try {
  execSync(`tsc --outDir ${fresh}`, { stdio: 'inherit' })
  const files = filesIn(fresh)
  for (const file of files) {
    mkdirSync(dirname(join('dist', file)), { recursive: true })
    renameSync(join(fresh, file), join('dist', file))
  }
  for (const file of filesIn('dist')) if (!files.includes(file)) rmSync(join('dist', file), { force: true })
} catch ({ message }) {
  console.error(message)
  process.exitCode = 1
} finally {
  rmSync(fresh, { recursive: true })
}

const warned = new Set<string>()

/** Emits a warning of the process, once for each code, however many mounts there are. */
export function warnOnce(code: string, message: string): void {
  if (warned.has(code)) return
  warned.add(code)
  process.emitWarning(message, { code })
}

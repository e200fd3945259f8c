const warned = new Set<string>()

/** Emits a process warning, once for each code, however many times the middleware is mounted. */
export function warnOnce(code: string, message: string): void {
  if (warned.has(code)) return
  warned.add(code)
  process.emitWarning(message, { code })
}

/** Imports modules in a process that has done nothing else, and tells the CPU time and the memory that this took. */
const heapBefore = process.memoryUsage().heapUsed
const before = process.cpuUsage()
for (const module of process.argv.slice(2)) await import(module)
const { user, system } = process.cpuUsage(before)
process.send({ cpuMs: (user + system) / 1000, heap: process.memoryUsage().heapUsed - heapBefore })

const steps: (() => Promise<unknown>)[] = []

/** Has something done at the end of the benchmark that is running, also when it fails; the last one first. */
export function atTheEnd(step: () => Promise<unknown>): void {
  steps.push(step)
}

export async function cleanUp(): Promise<void> {
  for (let step = steps.pop(); step !== undefined; step = steps.pop()) await step()
}

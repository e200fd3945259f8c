import type { TokenError } from '../errors/token-error.js'
import { digestOf } from '../tokens/grant-proof.js'
import type { ManagerContext } from './manager-context.js'
import { ignoredCopyError } from './manager-errors.js'
import { ReportedOnce } from './reported-once.js'

/**
 * Reports session copies that this process cannot use, so that their sessions count as logged out. Each copy causes one event.
 */
export class IgnoredCopies {
  readonly #context: Pick<ManagerContext, 'codec' | 'emit'>
  /** Digests of copies. */
  readonly #reported = new ReportedOnce()

  constructor(context: Pick<ManagerContext, 'codec' | 'emit'>) {
    this.#context = context
  }

  /** Emits that a copy is ignored, unless it can be used or was reported before. */
  note(copy: unknown): void {
    if (copy === undefined) return
    const { codec, emit } = this.#context
    const ignored = codec.ignored(copy)
    if (ignored && this.#reported.isFirst(digestOf(textOf(copy))))
      emit({ type: 'session_ignored', ...ignored })
  }

  /** Returns the error of a request whose copy is ignored; `undefined` for a copy that can be used. */
  errorOf(copy: unknown): TokenError | undefined {
    const ignored = this.#context.codec.ignored(copy)
    return ignored && ignoredCopyError(ignored.reason)
  }
}

function textOf(copy: unknown): string {
  if (typeof copy === 'string') return copy
  try {
    return JSON.stringify(copy) ?? ''
  } catch {
    return ''
  }
}
